"""Area of security: admission of pods, mutual TLS, installation key, gateway certificate, secret store, logins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

from components import sources
from components.ai.bindings import bindings
from components.cluster.area import ClusterArea
from components.config.gateway import GatewayEngine
from components.config.grafana import PART as GRAFANA
from components.config.mesh import MeshMode
from components.config.platform import Environment
from components.data import layer
from components.data.layer import DataLayer
from components.data.server import DataServer
from components.mesh import entrance, istio, istiod, sidecar
from components.observability.log_names import COLLECTOR, COLLECTOR_NAMESPACE
from components.pods import PodArgs, customized
from components.security import opa, policy_bundle, policy_data, realm_providers
from components.security.admission_policy import AdmissionPolicy
from components.security.api_key import ApiKey
from components.security.certificate import Certificate
from components.security.keycloak import PART as KEYCLOAK
from components.security.keycloak import Keycloak
from components.security.keycloak_realm import PART as REALM_PART
from components.security.keycloak_realm import KeycloakRealm
from components.security.secret_store import SecretStore
from components.security.store_names import CACHE, NATS, POSTGRES
from components.security.store_rights import SNAPSHOTS_ACCOUNT
from components.security.store_snapshots import StoreSnapshots
from components.stage import Stage

CERTIFICATE_SECRET = "gateway-tls"
KEY_SECRET = "gateway-key-default"


class SecurityArea:
    """Admission policies, mesh, installation key and gateway certificate."""

    key: ApiKey
    """The installation key, for the operator."""
    certificate: Certificate
    store: SecretStore | None
    keycloak: Keycloak | None
    realm: KeycloakRealm | None = None
    customize: PodArgs
    """Settings of the pods of this area; empty: none."""
    opa: opa.Opa | None
    """Decides at the gateway, where the configuration has it."""
    buckets: Mapping[str, str]
    """Buckets of the object store that this area uses, each with the login that owns it."""
    ready: list[pulumi.Resource]
    """Resources of the mesh that must be ready before pods start."""

    def __init__(self, stage: Stage, cluster: ClusterArea) -> None:
        admission = self._admission(stage, cluster)
        stage.first = [admission]  # before all workloads, so that their images are allowed in time
        self.ready = []
        stage.parts["admission"] = admission
        self._istio(stage)
        self._pods = customized(stage.config.security.pod, "security.pod")
        self.customize = self._pods.get("customize", PodArgs())
        self.key = ApiKey(
            f"{stage.env}-api-key", {"namespace": stage.namespace, "secret_name": KEY_SECRET}, stage.options()
        )
        hosts = [*stage.config.gateway.hosts, *entrance.inside_hosts(stage.config)]
        self.certificate = Certificate(
            f"{stage.env}-certificate",
            {"namespace": stage.namespace, "secret_name": CERTIFICATE_SECRET, "hosts": hosts},
            stage.options(),
        )
        stage.parts |= {"api-key": self.key, "certificate": self.certificate}
        self.store, self.keycloak = self._store(stage, cluster), None
        takes = self.store is not None and stage.config.data.object_store is not None
        self.opa = None
        self.buckets = {SNAPSHOTS_ACCOUNT: SNAPSHOTS_ACCOUNT} if takes else {}

    def after_data(self, stage: Stage, data: DataLayer) -> None:
        """Parts that need the data layer: Keycloak, OPA, and snapshots of the secret store."""
        self.keycloak = self._keycloak(stage, data)
        self._opa(stage, data)
        config = stage.config.security.secret_store
        if config is None or self.store is None or data.objects is None or not self.buckets:
            return
        stage.parts[SNAPSHOTS_ACCOUNT] = StoreSnapshots(
            f"{stage.env}-{SNAPSHOTS_ACCOUNT}",
            config.snapshots,
            {
                "namespace": stage.config.cluster.namespace,
                "image": stage.images["data-tasks"],
                "store": self.store.url,
                "authority": self.store.authority,
                "objects": data.objects,
                "login": data.objects.credentials.get(SNAPSHOTS_ACCOUNT),
                "customize": self.customize,
            },
            stage.options([self.store, data.objects]),
        )

    def _opa(self, stage: Stage, data: DataLayer) -> None:
        config, section = stage.config, stage.config.security.opa
        if section is None:
            return
        rules = policy_bundle.own_rules(sources.project() / section.rules) if section.rules else {}
        self.opa = stage.parts[policy_data.PART] = opa.Opa(
            f"{stage.env}-{policy_data.PART}",
            section,
            {
                "namespace": stage.namespace,
                "image": stage.images["opa"],
                "installation": policy_data.installation(config, section, entrance.intent(config)),
                "rules": rules,
                "data": bindings(data, opa.DATA),
                **self._pods,
            },
            stage.options(),
        )

    def _store(self, stage: Stage, cluster: ClusterArea) -> SecretStore | None:
        """The secret store, where the configuration has one."""
        config = stage.config
        if config.security.secret_store is None:
            return None
        issued = config.around.issued
        clients = [
            {
                "name": one.name,
                "store_keys": dict(one.store_keys),
                "store_key_families": list(one.store_key_families),
                "database": one.name in issued.get(POSTGRES, ()),
                "cache": one.name in issued.get(CACHE, ()),
                "nats": one.name in issued.get(NATS, ()),
            }
            for one in config.around.records.values()
        ]
        args: Any = {
            **config.security.secret_store.model_dump(exclude={"snapshots"}),
            "namespace": config.cluster.namespace,
            "image": stage.images[config.security.secret_store.engine.value],
            "clients": clients,
            "site": cluster.site,
            "destroy_data": config.data.destroy_data,
            **self._pods,
        }
        store = SecretStore(
            f"{stage.env}-secret-store",
            args,
            cluster.with_account(stage.options([cluster.namespace, *self.ready])),
        )
        stage.parts["secret-store"] = store
        return store

    def _keycloak(self, stage: Stage, data: DataLayer) -> Keycloak | None:
        """Keycloak, where the configuration has one."""
        config = stage.config
        if config.security.keycloak is None or data.postgres is None or data.logins is None:
            return None
        args: Any = {
            **config.security.keycloak.model_dump(include={"replicas", "resources"}),
            "namespace": config.cluster.namespace,
            "kubernetes_name": KEYCLOAK,
            "logins": data.logins.credentials,
            "image": stage.images[KEYCLOAK],
            "postgres_host": data.postgres.direct,
            "url": config.around.url,
            "gateways": ["gateway"],
            "provider_secrets": realm_providers.secrets(config.security.keycloak),
            "destinations": [url for one in config.security.keycloak.providers for url in one.addresses],
            **self._pods,
            "callers": [config.around.keeper, *([GRAFANA] if config.observability.grafana else [])],
        }
        keycloak = Keycloak(f"{stage.env}-{KEYCLOAK}", args, stage.options([data.postgres, *self.ready]))
        stage.parts[KEYCLOAK] = keycloak
        self.realm = KeycloakRealm(
            f"{stage.env}-{REALM_PART}",
            config.security.keycloak,
            {
                "namespace": config.cluster.namespace,
                "image": stage.images["data-tasks"],
                "keycloak": keycloak,
                "url": config.around.url,
                "customize": self.customize,
                "grafana": config.observability.grafana is not None,
            },
            stage.options([keycloak]),
        )
        stage.parts[REALM_PART] = self.realm
        return keycloak

    @property
    def servers(self) -> dict[str, DataServer]:
        """Servers of this area's parts, by name."""
        return {name: part.server for name, part in (("secret-store", self.store), (KEYCLOAK, self.keycloak)) if part}

    def _admission(self, stage: Stage, cluster: ClusterArea) -> AdmissionPolicy:
        """Create the admission policies: allowed pods, and protection of data."""
        config = stage.config
        upstream = [
            *(["kong"] if config.gateway.engine is GatewayEngine.KONG else []),
            *(["kserve"] if any(model.serving for model in config.models) else []),
            *(["istio"] if config.mesh.mode is not MeshMode.OFF and not config.own_mesh else []),
        ]
        return AdmissionPolicy(
            f"{stage.env}-admission",
            {
                "namespace": stage.namespace,
                "images": stage.resolver.admitted(),
                "upstream": upstream,
                "log_reader": f"{COLLECTOR_NAMESPACE}/{COLLECTOR}" if config.observability.logs else "",
                "guard_data": not config.data.destroy_data
                and bool([*layer.images(config.data), *config.security.images, *config.observability.images]),
            },
            stage.options([cluster.namespace]),
        )

    def _istio(self, stage: Stage) -> None:
        """Install Istio if the configuration enables a mesh and the cluster has none."""
        config = stage.config
        if config.own_mesh:
            self._own_istio(stage)
            return
        if config.mesh.mode is MeshMode.OFF or "istiod" in stage.reused:
            return
        mesh = istio.Istio(
            f"{stage.env}-istio",
            {
                "mode": config.mesh.mode,
                "highly_available": config.environment in (Environment.STAGING, Environment.PROD),
                "platform": "eks" if config.cluster.eks else "",
            },
            stage.options(),
        )
        self.ready = mesh.ready
        stage.parts["istio"] = mesh

    def _own_istio(self, stage: Stage) -> None:
        """Run istiod, and add a sidecar to the pods of all Deployments from now on."""
        space, mesh = stage.config.cluster.namespace, stage.config.mesh
        args: istiod.IstiodArgs = {
            "namespace": space,
            "image": stage.images["istiod"],
            "replicas": 1,
            "authorities": mesh.authorities,
            "serves_collector": stage.config.observability.prometheus is not None,
        }
        made = istiod.Istiod(f"{stage.env}-{sidecar.PART}", args, stage.options())
        added = sidecar.Sidecar(
            space,
            stage.images["istio-proxy"],
            mesh.sidecar,
            mesh.certificate_minutes,
            made.authority,
            {"gateway": (entrance.PROXY_PORT,)},
        )
        stage.first += made.ready
        stage.transformations.append(added.transformation)
        stage.parts[sidecar.PART] = made
