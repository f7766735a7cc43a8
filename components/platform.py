"""The whole platform: which parts there are and what each takes from the others."""

from __future__ import annotations

import functools
import hashlib
import json

import pulumi
import pulumi_kubernetes as k8s

from components import catalogue
from components.ai import bundled, model_server, model_serving, models, router, serving_operators
from components.ai.audit import Audit
from components.ai.bindings import bindings
from components.ai.models import ModelServer
from components.ai.service import AiService, AiServiceArgs
from components.base import ADMISSION_LABEL, SCRAPER, PlatformComponent
from components.cluster.aws_foundation import AwsFoundation
from components.cluster.aws_site import AwsSite
from components.cluster.existing_cluster import ExistingCluster
from components.cluster.local_cluster import LocalCluster
from components.cluster.namespace import PlatformNamespace
from components.config.cluster import ClusterKind, NetworkPolicies
from components.config.gateway import GatewayEngine
from components.config.mesh import MeshMode
from components.config.models import Model
from components.config.platform import Environment, PlatformConfig
from components.data import layer as data_layer
from components.data.layer import DataLayer
from components.delivery.images import ImageResolver
from components.intents import VECTOR, erasers
from components.mesh import entrance, istio
from components.observability.end_to_end import EndToEndCheck
from components.observability.monitoring import Monitoring, MonitoringArgs
from components.security.admission_policy import AdmissionPolicy
from components.security.api_key import ApiKey
from components.security.certificate import Certificate
from components.security.isolation_check import IsolationCheck

CERTIFICATE_SECRET = "gateway-tls"
KEY_SECRET = "gateway-key-default"


class Platform(PlatformComponent):
    """An environment of the platform, from one configuration."""

    def __init__(
        self, config: PlatformConfig, opts: pulumi.ResourceOptions | None = None, *, name: str | None = None
    ) -> None:
        """`name` is the environment's own, with which names of resources begin; default: its stage."""
        env = name or config.environment.value
        super().__init__("platform", f"{env}-platform", {"version": catalogue.platform_version()}, opts)
        self._config, self._env = config, env
        self._reused: frozenset[str] = frozenset()
        self._first: list[pulumi.Resource] = []
        self._images = ImageResolver(config.images)
        # Every image is verified before the first resource is registered: a bad one changes nothing.
        images = {name: self._images.reference(name) for name in ("router", "gateway", "inference-sim")}
        stored_names = {*data_layer.images(config.data), *config.services.bundled, *self._isolation_images()}
        stored = {
            name: images[name] if name in images else self._images.reference(name) for name in sorted(stored_names)
        }
        self._site: AwsSite | None = None
        self._cluster, foundation = self._connect()
        space = PlatformNamespace(
            f"{env}-namespace",
            {
                "namespace": config.cluster.namespace,
                "owner": config.owner,
                "labels": {ADMISSION_LABEL: config.cluster.namespace, **istio.namespace_labels(config.mesh.mode)},
            },
            self._options(),
        )
        self._namespace = space.namespace
        admission = self._admission(space)
        self._first = [admission]  # before what runs pods, so that its images are admitted by then
        istio_parts, ready = self._istio()
        after: list[pulumi.Resource] = [space, *ready]
        self.data = DataLayer(
            env, config.data, config.cluster.namespace, stored.__getitem__, self._site, self._options(after)
        )
        mesh = {**istio_parts, **self._mesh_policy(ready)}
        served = any(model.serving for model in config.models)
        serving = serving_operators.make(env, self._reused, self._options) if served else {}
        keys = models.keys(config, self._namespace, self._options)
        servers = models.make(
            config,
            self._namespace,
            keys,
            lambda name: images[name] if name in images else self._images.reference(name),
            [*serving.values()],
            self._options,
        )
        self.key = ApiKey(f"{env}-api-key", {"namespace": self._namespace, "secret_name": KEY_SECRET}, self._options())
        self._router = self._ai_router(images["router"], servers, [*keys.values()])
        services = self._bundled(stored)
        self.certificate = self._certificate()
        self.gateway = entrance.make(
            f"{env}-gateway",
            config,
            {
                "namespace": self._namespace,
                "image": images["gateway"],
                "key": self.key.key,
                "certificate_secret": self.certificate.secret_name,
                "certificate_version": self.certificate.authority.apply(_fingerprint),
            },
            self._options(),
        )
        check = self._end_to_end(images, [*services.values()])
        isolation = self._isolation(stored, services, [self.gateway, *(server for _, server in servers)])
        monitored = self._monitoring([*self.data.parts, *services])
        parts: dict[str, PlatformComponent] = {
            **foundation,
            **mesh,
            **serving,
            **self.data.parts,
            "namespace": space,
            **{model_server.part_name(model): server for model, server in servers},
            "admission": admission,
            "router": self._router,
            **services,
            **monitored,
            **isolation,
            "api-key": self.key,
            "certificate": self.certificate,
            "gateway": self.gateway,
            "end-to-end": check,
        }
        self.parts = {name: part.health for name, part in parts.items()}
        self.url = pulumi.Output.concat("https://", self._public_address(), "/v1")
        self.finish(
            {
                "kind": "Job",
                "namespace": self._namespace,
                "name": "end-to-end",
                "probe": "all parts are healthy",
            },
            url=self.url,
        )

    def _connect(self) -> tuple[k8s.Provider, dict[str, PlatformComponent]]:
        """The cluster, and the parts that were made for it."""
        cluster = self._config.cluster
        if cluster.eks is not None:
            foundation = AwsFoundation(f"{self._env}-foundation", self._config, self.child(), environment=self._env)
            self._site = foundation.site
            return foundation.provider, foundation.parts
        if cluster.kind is ClusterKind.LOCAL:
            local = LocalCluster(f"{self._env}-cluster", self.child())
            return local.provider, {"cluster": local}
        existing = ExistingCluster(f"{self._env}-cluster", cluster.context, self.child())
        self._reused = frozenset(part.part.chart for part in existing.found if part.reused)
        return existing.provider, {"cluster": existing}

    def _admission(self, space: PlatformNamespace) -> AdmissionPolicy:
        """Which pods the API server admits to the platform's namespaces, and whether it guards the data there."""
        config = self._config
        upstream = [
            *(["kong"] if config.gateway.engine is GatewayEngine.KONG else []),
            *(["kserve"] if any(model.serving for model in config.models) else []),
            *(["istio"] if config.mesh.mode is not MeshMode.OFF else []),
        ]
        return AdmissionPolicy(
            f"{self._env}-admission",
            {
                "namespace": space.namespace,
                "images": self._images.admitted(),
                "upstream": upstream,
                "guard_data": not config.data.destroy_data and bool(data_layer.images(config.data)),
            },
            self._options([space]),
        )

    def _istio(self) -> tuple[dict[str, PlatformComponent], list[pulumi.Resource]]:
        """Istio, where the configuration wants a mesh and the cluster has none; and what has to be ready of it."""
        mode = self._config.mesh.mode
        if mode is MeshMode.OFF or "istiod" in self._reused:
            return {}, []
        platform = "eks" if self._config.cluster.eks else ""
        available = self._config.environment in (Environment.STAGING, Environment.PROD)
        mesh = istio.Istio(
            f"{self._env}-istio",
            {"mode": mode, "highly_available": available, "platform": platform},
            self._options(),
        )
        return {"istio": mesh}, mesh.ready

    def _mesh_policy(self, ready: list[pulumi.Resource]) -> dict[str, PlatformComponent]:
        """Who may call whom, where there is a mesh."""
        if self._config.mesh.mode is MeshMode.OFF:
            return {}
        inside = models.inside(self._config)
        policy = istio.MeshPolicy(
            f"{self._env}-mesh-policy",
            {
                "namespace": self._namespace,
                "callers": {
                    "router": router.intent(self._config).all_callers,
                    **{model_server.part_name(m): ("router",) for m in inside},
                    **{
                        name: bundled.intent(name, service, self._config.observability).all_callers
                        for name, service in self._config.services.bundled.items()
                    },
                    **{name: server.callers for name, server in self.data.servers.items()},
                },
                "metrics": {
                    "router": router.PORT,
                    **{model_server.part_name(m): model_server.PORT for m in inside if not m.serving},
                    **{model_server.part_name(m): model_serving.PORT for m in inside if m.serving},
                    **{name: server.metrics_port for name, server in self.data.servers.items() if server.metrics_port},
                },
                "scraper": SCRAPER,
                "entrance": ("gateway", entrance.PROXY_PORT),
                "cluster_domain": "cluster.local",
            },
            self._options(ready),
        )
        return {"mesh-policy": policy}

    def _options(self, depends_on: list[pulumi.Resource] | None = None) -> pulumi.ResourceOptions:
        after = [*self._first, *(depends_on or [])]
        return pulumi.ResourceOptions(parent=self, providers={"kubernetes": self._cluster}, depends_on=after)

    def _ai_router(
        self, image: pulumi.Input[str], servers: list[tuple[Model, ModelServer]], keys: list[pulumi.Resource]
    ) -> AiService:
        """It comes after the servers' keys, which its pods then have from their start."""
        urls = pulumi.Output.all(**{model.name: service.url for model, service in servers})
        by_name = {model.name: model for model in self._config.models}
        outside = {model.name: model.external.url for model in self._config.models if model.external}
        routes, bound = self._config.routes, bindings(self.data, "router")
        services = self._config.services
        embeddings = self._inside("embeddings", bundled.PORT) if services.embeddings else ""
        # Only what is made of the key is in the table, and that tells nothing of it.
        key = pulumi.Output.unsecret(self.key.key) if services.user else ""
        table = pulumi.Output.all(urls, key).apply(
            lambda found: router.route_table(
                {n: (by_name[n], url) for n, url in (found[0] | outside).items()},
                routes,
                embeddings,
                found[1],
                services.guardrails is not None,
            )
        )
        return AiService(
            f"{self._env}-router",
            router.intent(self._config),
            {
                "namespace": self._namespace,
                "image": image,
                "files": {"routes.json": table, **bound.files},
                "environment": bound.environment,
                "secrets": bound.secrets,
                "versions": bound.versions,
                "credentials": router.credentials(self._config.models, self._config.cluster.namespace),
                "shown": router.shown(embeddings),
                "outlets": router.outlets(self._config.models),
                "asks": bundled.asks(bundled.rpc_addresses(self._config, "router")),
            },
            self._options(keys),
        )

    def _bundled(self, images: dict[str, pulumi.Output[str]]) -> dict[str, PlatformComponent]:
        """The services beside the router that the configuration names."""
        observability, found = self._config.observability, dict[str, PlatformComponent]()
        after = [self.data.parts["vector-database"]] if "vector-database" in self.data.parts else []
        for name, service in self._config.services.bundled.items():
            make = Audit if name == "audit" else functools.partial(bundled.make, service=name)
            found[name] = make(
                f"{self._env}-{name}",
                config=service,
                observability=observability,
                args=self._service_args(name, images[name]),
                data=self.data,
                opts=self._options([*after] if name == "retriever" else None),
            )
        return found

    def _service_args(self, name: str, image: pulumi.Input[str]) -> AiServiceArgs:
        """What a bundled service takes from the others."""
        services = self._config.services
        addresses = bundled.rpc_addresses(self._config, name)
        kept = bundled.kept(services.bundled[name])
        environment: dict[str, pulumi.Input[str]] = {**kept, **bundled.told(addresses)}
        secrets: dict[str, tuple[pulumi.Input[str], str]] = {}
        if services.user and name in bundled.ASKS_FOR_KEYS:
            environment["SERVICE_TENANTS"] = "true"
        if name == "retriever":
            vectors = self._config.data.vector_database
            fitting = [c.name for c in vectors.collections if c.dimension == VECTOR] if vectors else []
            environment["SERVICE_COLLECTION"] = fitting[0]
            if vectors and vectors.server:
                environment["SERVICE_ENGINE"] = vectors.engine.value
                environment["SERVICE_ENGINE_URL"] = vectors.server.url
                secrets["SERVICE_ENGINE_KEY"] = (vectors.server.secret_name, "key")
            environment |= bundled.rooms(self._config)
        if name == "user":
            secrets["SERVICE_INSTALLATION_KEY"] = (self.key.secret_name, "key")
            there = [eraser for eraser in erasers() if getattr(services, eraser) is not None]
            environment["SERVICE_ERASED_BY"] = json.dumps(there)
            if services.user and (login := services.user.login):
                environment["SERVICE_OIDC_ISSUER"] = login.issuer
                environment["SERVICE_OIDC_CLIENT"] = login.client_id
                environment["SERVICE_OIDC_REDIRECT"] = f"https://{self._host()}/v1/callback"
                secrets["SERVICE_OIDC_SECRET"] = (login.secret_name, "secret")
        return {
            "namespace": self._namespace,
            "image": image,
            "environment": environment,
            "secrets": secrets,
            "asks": bundled.asks(addresses),
        }

    def _inside(self, name: str, port: int) -> str:
        return f"http://{name}.{self._config.cluster.namespace}:{port}"

    def _certificate(self) -> Certificate:
        hosts = [*self._config.gateway.hosts, *entrance.inside_hosts(self._config)]
        return Certificate(
            f"{self._env}-certificate",
            {"namespace": self._namespace, "secret_name": CERTIFICATE_SECRET, "hosts": hosts},
            self._options(),
        )

    def _end_to_end(self, images: dict[str, pulumi.Output[str]], after: list[PlatformComponent]) -> EndToEndCheck:
        inside = entrance.inside_hosts(self._config)[1]
        release = pulumi.Output.all(*images.values(), self._config.model_dump_json()).apply(
            lambda values: _fingerprint("\n".join(map(str, values)))
        )
        return EndToEndCheck(
            f"{self._env}-end-to-end",
            {
                "namespace": self._namespace,
                "image": images["router"],
                "url": f"https://{inside}:{self._config.gateway.port}/v1/chat/completions",
                "model": (models.inside(self._config) or self._config.models)[0].name,
                "key_secret": self.key.secret_name,
                "certificate_secret": self.certificate.secret_name,
                "release": release,
            },
            self._options([self.gateway, self._router, *after]),
        )

    def _isolation_images(self) -> list[str]:
        enforced = self._config.cluster.network_policies is NetworkPolicies.ENFORCED
        return ["data-tasks"] if enforced else []

    def _isolation(
        self,
        images: dict[str, pulumi.Output[str]],
        services: dict[str, PlatformComponent],
        after: list[PlatformComponent],
    ) -> dict[str, PlatformComponent]:
        """The check that a pod without rights reaches nothing but the entrance."""
        names = self._isolation_images()
        if not names:
            return {}
        closed = [self._router, *services.values(), *self.data.servers.values(), *after]
        ports = {name: numbers for part in closed for name, numbers in part.ports.items()}
        check = IsolationCheck(
            f"{self._env}-isolation",
            {
                "namespace": self._namespace,
                "image": images[names[0]],
                "ports": ports,
                "control": (entrance.inside_hosts(self._config)[1], self._config.gateway.port),
                "release": _fingerprint(self._config.model_dump_json()),
            },
            self._options([*closed]),
        )
        return {"isolation": check}

    def _monitoring(self, parts: list[str]) -> dict[str, PlatformComponent]:
        if not self._config.observability.prometheus_operator:
            return {}
        names = frozenset(parts + (["data"] if self.data.servers else []))
        args: MonitoringArgs = {"namespace": self._config.cluster.namespace, "parts": names}
        return {"monitoring": Monitoring(f"{self._env}-monitoring", args, self._options())}

    def _public_address(self) -> pulumi.Output[str]:
        """The configured host if it is a plain name, else what the load balancer was given."""
        if self._config.gateway.hosts[0].startswith("*"):
            return self.gateway.address
        return self.gateway.address.apply(lambda _: self._host())

    def _host(self) -> str:
        """The first of the configured hosts, as it stands in a URL."""
        host, port = self._config.gateway.hosts[0], self._config.gateway.port
        return host if port == 443 else f"{host}:{port}"


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
