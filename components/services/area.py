"""Area of the services: deploys each enabled service from its record."""

from __future__ import annotations

import pulumi

from components.ai.models import ModelsArea
from components.ai.service import AiServiceArgs
from components.base import PlatformComponent
from components.config.platform import PlatformConfig
from components.config.security import REALM
from components.data.layer import DataLayer
from components.mesh.entrance import inside_hosts
from components.observability.watched import watched
from components.security.area import SecurityArea
from components.services import evidence, making, routing, telemetry
from components.services.registry import FRONT
from components.stage import Stage


class ServicesArea:
    """All enabled services."""

    parts: dict[str, PlatformComponent]
    """Services by name, including the Router."""

    def __init__(self, stage: Stage, security: SecurityArea, data: DataLayer, models: ModelsArea) -> None:
        config, self.parts = stage.config, {}
        for name, record in config.around.records.items():
            image = stage.images[record.image]
            more: AiServiceArgs = {"namespace": stage.namespace, "image": image}
            after: list[pulumi.Resource] = []
            if record is FRONT:
                after = [*models.keys.values()]  # pods then have the model servers' keys when they start
                more = routing.extras(config, stage.namespace, image, models.urls, security.key.key)
            if record.keeps_keys and security.keycloak and security.realm:
                # Where pods reach Keycloak; its issuer is the gateway's URL, which only browsers reach.
                address = pulumi.Output.concat(security.keycloak.url, f"/realms/{REALM}")
                own = {"SERVICE_OIDC_ADDRESS": address, "SERVICE_OIDC_AUTHORITY": security.keycloak.authority}
                more["environment"] = {**more.get("environment", {}), **own}
                after.append(security.realm)
            if record.shows_evidence:
                more["environment"] = {**more.get("environment", {}), evidence.VARIABLE: evidence.rendered(stage)}
            if record.shows_telemetry:
                shown = telemetry.boards(config, watched(stage, security, data, models))
                more = telemetry.shown(record, config, more, shown)
            if record.calls_gateway:
                more = _gateway(config, security, more)
            self.parts[name] = making.make(
                f"{stage.env}-{name}",
                record,
                config,
                data,
                security.key.secret_name,
                more,
                after,
                stage.options,
                routing.SERVED if record is FRONT and routing.served(config) else (),
            )
        stage.parts |= self.parts


def _gateway(config: PlatformConfig, security: SecurityArea, more: AiServiceArgs) -> AiServiceArgs:
    """Arguments of a service that calls the gateway: its address inside the cluster, and its CA certificate."""
    address = f"https://{inside_hosts(config)[0]}:{config.gateway.port}"
    return {
        **more,
        "environment": {**more.get("environment", {}), "SERVICE_GATEWAY_URL": address},
        "secrets": {"SERVICE_GATEWAY_AUTHORITY": (security.certificate.secret_name, "ca.crt")},
    }
