"""Area of the data layer."""

from __future__ import annotations

from components.cluster.area import ClusterArea
from components.data.issued_logins import StoreSite
from components.data.layer import DataLayer
from components.security import opa
from components.security.area import SecurityArea
from components.services.record import DataIntent
from components.services.registry import SERVICES
from components.stage import Stage


def make(stage: Stage, cluster: ClusterArea, security: SecurityArea) -> DataLayer:
    """Create databases, messaging, cache and object store, as configured."""
    config, records = stage.config, stage.config.around.records
    # In the registry's order: definitions hold lists in the order of the records, and another order restarts pods.
    ordered: dict[str, DataIntent] = {name: records[name] for name in (*SERVICES, *records) if name in records}
    if config.security.opa:
        ordered[opa.DATA.name] = opa.DATA
    store = None
    if security.store and config.security.secret_store:
        image = stage.images[config.security.secret_store.engine.value]
        found = security.store
        store = StoreSite(found.url, found.authority, image, security.customize, config.around.issued, found.address)
    data = DataLayer(
        stage.env,
        config.data,
        config.cluster.namespace,
        stage.images.__getitem__,
        ordered,
        buckets=security.buckets,
        owners=config.security.databases,
        site=cluster.site,
        store=store,
        opts=cluster.with_account(stage.options([cluster.namespace, *security.ready])),
    )
    stage.parts |= data.parts
    return data
