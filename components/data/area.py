"""Area of the data layer."""

from __future__ import annotations

from components.cluster.area import ClusterArea
from components.data.layer import DataLayer
from components.security.area import SecurityArea
from components.stage import Stage


def make(stage: Stage, cluster: ClusterArea, security: SecurityArea) -> DataLayer:
    """Create databases, messaging, cache and object store, as configured."""
    config = stage.config
    after = [cluster.namespace, *security.ready]
    image = stage.images.__getitem__
    data = DataLayer(stage.env, config.data, config.cluster.namespace, image, cluster.site, stage.options(after))
    stage.parts |= data.parts
    return data
