"""Grafana: the platform's dashboards in a browser. Upstream's image; logins with Keycloak; its content is code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.ai.service import collector_spec, network_policy, outlet_spec, scraper
from components.base import SCRAPER, PlatformComponent, labels
from components.config.grafana import PART, PATH, PORT
from components.config.grafana import Grafana as GrafanaConfig
from components.config.logs import Loki
from components.config.traces import QUERY_PORT
from components.config.traces import SERVER as JAEGER
from components.config.web import destination
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent
from components.observability import boards, dashboards, grafana_files, scraping
from components.observability.grafana_files import CLIENT, DASHBOARDS, KEY, PASSWORD, PROVISIONING
from components.observability.monitoring import INTERVAL_S
from components.pods import PodArgs
from components.security.keycloak import SECRET, Keycloak
from components.security.keycloak_realm import KeycloakRealm
from components.security.logins import Logins


class GrafanaArgs(TypedDict):
    """Inputs of Grafana."""

    namespace: pulumi.Input[str]
    """Namespace of the platform."""
    image: pulumi.Input[str]
    """Grafana's image, by digest."""
    url: str
    """URL of the platform for people's browsers."""
    gateway: str
    """Value of app.kubernetes.io/name of the pods that forward browsers' requests."""
    keycloak: Keycloak
    realm: KeycloakRealm
    """It has Grafana's client."""
    prometheus: bool
    """Whether the platform's own Prometheus has the metrics."""
    jaeger: bool
    """Whether the platform has Jaeger."""
    loki: Loki | None
    """Loki that has the log lines."""
    folders: Mapping[str, Mapping[str, Any]]
    """Dashboards by folder and name."""
    destroy_data: bool
    """Whether `destroy` may delete users and preferences."""
    customize: PodArgs
    """Settings of its pod."""


class GrafanaResources(NamedTuple):
    """Resources of Grafana."""

    server: DataServer
    secrets: Logins
    """Secret with the administrator's password, and the key that encrypts secrets in the database."""
    dashboards: Mapping[str, k8s.core.v1.ConfigMap]
    """By folder."""


class Grafana(PlatformComponent):
    """A server that only the gateway may reach, with its data sources and dashboards as files."""

    def __init__(
        self, name: str, config: GrafanaConfig, args: GrafanaArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("observability", name, {"storage": config.storage}, opts)
        self._namespace = args["namespace"]
        secrets = Logins(
            f"{name}-secrets", {"namespace": args["namespace"], "logins": {PART: [PASSWORD, KEY]}}, self.child()
        )
        maps = dashboards.config_maps(name, PART, args["namespace"], args["folders"], self.child(), sidecar=False)
        places = {folder: f"{DASHBOARDS}/{number}" for number, folder in enumerate(maps)}
        provisioned = self._provisioned(config, args, places)
        home = f"{places[boards.FOLDER]}/{boards.OVERVIEW.name}.json"
        self._egress(config, args)
        realm = args["realm"]
        login = f"keycloak-{PART}"
        server = DataServer(
            name,
            ServerIntent(
                name=PART,
                title="Grafana",
                processes=(_process(config, args["image"], secrets.secret(PART), realm.clients.secret(login)),),
                callers=(args["gateway"],),
                storage=config.storage,
            ),
            ServerInputs(
                namespace=args["namespace"],
                customize=args["customize"],
                destroy_data=args["destroy_data"],
                files={
                    "grafana.ini": args["keycloak"].url.apply(
                        lambda url: grafana_files.settings(args["url"], url, config.viewers, home)
                    ),
                    grafana_files.AUTHORITY: args["keycloak"].authority,
                },
                folders={
                    **{f"{PROVISIONING}/{kind}": made.metadata["name"] for kind, made in provisioned.items()},
                    **{places[folder]: made.metadata["name"] for folder, made in maps.items()},
                },
                versions=(secrets.versions[PART], realm.clients.versions[login]),
            ),
            self.child(depends_on=[realm]),
        )
        self.ports = server.ports
        self.resources = GrafanaResources(server, secrets, maps)
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": args["namespace"],
                "name": PART,
                "probe": f"GET {PATH}api/health answers 200",
            }
        )

    def _provisioned(
        self, config: GrafanaConfig, args: GrafanaArgs, places: Mapping[str, str]
    ) -> dict[str, k8s.core.v1.ConfigMap]:
        """ConfigMaps of provisioning by kind. Auto-named: a change makes new ones, and restarts the pod."""
        own = f"http://{SCRAPER[1]}.{SCRAPER[0]}.svc:{scraping.PORT}"
        loki = args["loki"]
        content: dict[str, dict[str, Any]] = {
            "datasources": grafana_files.sources(
                own if args["prometheus"] else config.prometheus_url,
                scraping.INTERVAL_S if args["prometheus"] else INTERVAL_S,
                f"http://{JAEGER}:{QUERY_PORT}" if args["jaeger"] else "",
                loki.url if loki else "",
                loki.tenant if loki else "",
            ),
            "dashboards": grafana_files.providers(places),
        }
        return {
            kind: k8s.core.v1.ConfigMap(
                f"{self.name}-{kind}",
                metadata={"namespace": self._namespace, "labels": labels(PART, "observability")},
                data={f"{kind}.yaml": json.dumps(one, indent=1)},
                immutable=True,
                opts=self.child(),
            )
            for kind, one in content.items()
        }

    def _egress(self, config: GrafanaConfig, args: GrafanaArgs) -> None:
        """To stores outside the platform's namespace; the namespace admits those inside."""
        loki = args["loki"]
        urls = [("loki", loki.url)] if loki else []
        if not args["prometheus"]:
            urls.append(("metrics", config.prometheus_url))
        for slug, url in urls:
            inside, outside = destination(url)
            self._policy(slug, collector_spec(*inside) if inside else outlet_spec(outside))
        if args["prometheus"]:
            to = [{"to": [scraper()], "ports": [{"port": scraping.PORT}]}]
            self._policy("metrics", {"policy_types": ["Egress"], "egress": to})

    def _policy(self, slug: str, spec: Any) -> None:
        meta = {
            "name": f"{PART}-{slug}",
            "namespace": self._namespace,
            "labels": labels(PART, "observability"),
        }
        network_policy(f"{self.name}-{slug}", meta, PART, spec, self.child())


def _process(
    config: GrafanaConfig, image: pulumi.Input[str], own: pulumi.Input[str], client: pulumi.Input[str]
) -> Process:
    health = {"http_get": {"path": f"{PATH}api/health", "port": "http"}}
    return Process(
        PART,
        image,
        config.resources,
        ports={"http": PORT},
        # The image's script reads these.
        environment={
            "GF_PATHS_CONFIG": f"{grafana_files.FOLDER}/grafana.ini",
            "GF_PATHS_DATA": DATA_MOUNT,
            "GF_PATHS_LOGS": f"{DATA_MOUNT}/log",
            "GF_PATHS_PLUGINS": f"{DATA_MOUNT}/plugins",
            "GF_PATHS_PROVISIONING": PROVISIONING,
        },
        secrets={PASSWORD: (own, PASSWORD), KEY: (own, KEY), CLIENT: (client, SECRET)},
        ready=health,
        start_s=300,  # a new version migrates its database
    )
