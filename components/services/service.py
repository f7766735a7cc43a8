"""A service of one's own, from the same record as `services.custom` in the stack file."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pulumi

from components.ai import bindings
from components.ai.bindings import Connections, connected
from components.ai.service import AiService, AiServiceArgs
from components.base import PlatformComponent
from components.config.observability import Observability
from components.inputs import Login, checked
from components.services import custom, making
from components.services.service_inputs import ServiceArgs, ServiceInputs


class ServiceResources(NamedTuple):
    """Resources of a service."""

    service: AiService


class Service(PlatformComponent):
    """A service: Deployment, Service, ServiceAccount, NetworkPolicies, disruption budget, and its connections."""

    url: pulumi.Output[str]
    """Base URL inside the cluster. It resolves once the pods are ready."""

    def __init__(self, name: str, args: ServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(ServiceInputs, self, name, args)
        super().__init__("services", name, {"replicas": inputs.replicas}, opts)
        section, part = inputs.section(), inputs.kubernetes_name
        record = custom.record(part, section, "")
        wanted = making.intent_for(record, section, Observability(), {part: record})
        wanted = replace(
            wanted,
            rpc_port=inputs.rpc_port if inputs.rpc_callers else 0,
            rpc_callers=tuple(inputs.rpc_callers),
            migration=tuple(inputs.migrate),
        )
        bound = connected(part, _used(inputs))
        more: AiServiceArgs = {
            "namespace": inputs.namespace,
            "image": inputs.image,
            "environment": {**bound.environment, **inputs.environment},
            "secrets": {
                **bound.secrets,
                **{variable: (one.secret, one.entry) for variable, one in inputs.secrets.items()},
            },
            "files": bound.files,
            "versions": bound.versions,
            "annotations": bound.annotations,
            "asks": inputs.asks,
            "outlets": inputs.egress,
        }
        if inputs.customize:
            more["customize"] = inputs.customize
        service = AiService(name, wanted, making.placed(record, more), self.child())
        self.url, self.ports = service.url, service.ports
        self.resources = ServiceResources(service)
        self.finish(
            {
                "kind": "Deployment",
                "namespace": inputs.namespace,
                "name": part,
                "probe": f"GET {inputs.ready_path} answers 200",
            },
            url=self.url,
        )


def _used(inputs: ServiceInputs) -> Connections:
    """The data servers that the service uses."""
    sql, events, bus, keys, store = inputs.postgres, inputs.kafka, inputs.nats, inputs.cache, inputs.objects
    logins: list[Login] = [one.login for one in (sql, events, bus, keys, store) if one and one.login]
    return Connections(
        bindings.Postgres(sql.host, sql.direct or sql.host, sql.login.secret_name) if sql else None,
        bindings.Kafka(events.bootstrap, events.authority, events.login.secret_name) if events else None,
        bindings.Server(keys.url, keys.login.secret_name) if keys else None,
        bindings.Server(bus.url, bus.login.secret_name) if bus else None,
        bindings.Objects(
            store.endpoint, store.login.secret_name if store.login else None, store.place, store.annotations
        )
        if store
        else None,
        tuple(login.version for login in logins),
    )
