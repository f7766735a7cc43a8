"""Renders dashboards for Grafana, through Grafana's foundation SDK, and puts them into ConfigMaps."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.base import labels
from components.observability import boards, boards_data, boards_security, boards_services, boards_traces
from components.observability.alert import within
from components.observability.alerts import by_name
from components.observability.panel import Board, Panel
from components.services.record import ServiceRecord

UID = "cogniforge"
"""Beginning of each dashboard's address in Grafana."""
OWNER = "owner:"
"""Beginning of the tag that names a dashboard's owner."""
VARIABLE = "datasource"
"""Variable with the data source, so that a dashboard works in any Grafana."""
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2


def chosen(parts: frozenset[str], records: Iterable[ServiceRecord]) -> tuple[Board, ...]:
    """The boards of an environment with these parts, each with the panels that have data."""
    services = (boards_services.board(record) for record in by_name(records) if record.metrics)
    every = (*boards.BOARDS, *services, *boards_data.BOARDS, *boards_security.BOARDS, boards_traces.BOARD)
    return tuple(_with_data(board, parts) for board in every if not board.part or board.part in parts)


def _with_data(board: Board, parts: frozenset[str]) -> Board:
    return replace(board, panels=tuple(one for one in board.panels if not one.part or one.part in parts))


def rendered(board: Board, namespace: str, owner: str) -> dict[str, Any]:
    """Grafana's JSON of a board. `owner`: person or group responsible for the environment."""
    # Late imports: an environment without dashboards saves the time and the memory that these take.
    from grafana_foundation_sdk.builders import dashboard
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import DashboardCursorSync

    made = (
        dashboard.Dashboard(board.title)
        .uid(f"{UID}-{board.name}")
        .description(board.description)
        .tags([UID, f"{OWNER}{owner}"])
        .readonly()
        .time("now-6h", "now")
        .refresh("1m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable(VARIABLE).label("Metrics").type("prometheus"))
    )
    for number, one in enumerate(board.panels):
        made.with_panel(_panel(one, number, namespace))
    return json.loads(json.dumps(made.build(), cls=JSONEncoder))


def _panel(panel: Panel, number: int, namespace: str) -> Any:
    """A panel at its place: two in a row."""
    from grafana_foundation_sdk.builders import common, prometheus, timeseries
    from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
    from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos

    source = DataSourceRef(type_val="prometheus", uid=f"${{{VARIABLE}}}")
    row, column = divmod(number, _COLUMNS)
    made = (
        timeseries.Panel()
        .id(number + 1)
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(source)
        .grid_pos(GridPos(h=_HEIGHT, w=_WIDTH, x=_WIDTH * column, y=_HEIGHT * row))
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    for letter, query in zip(string.ascii_uppercase, panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(within(namespace, query.expression))
        made.with_target(target.legend_format(query.legend).datasource(source))
    return made


def dashboards(
    namespace: str, owner: str, parts: frozenset[str], records: Iterable[ServiceRecord]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Grafana's JSON of all dashboards by folder and name."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for board in chosen(parts, records):
        found.setdefault(board.folder, {})[board.name] = rendered(board, namespace, owner)
    return found


def config_maps(
    name: str,
    part: str,
    namespace: pulumi.Input[str],
    folders: Mapping[str, Mapping[str, Any]],
    child: pulumi.ResourceOptions,
    *,
    sidecar: bool,
) -> dict[str, k8s.core.v1.ConfigMap]:
    """A ConfigMap for each folder of dashboards, by folder. `part`: what has them.

    `sidecar`: whether the sidecar of Grafana's Helm chart finds them, by its label and annotation.
    """
    made: dict[str, k8s.core.v1.ConfigMap] = {}
    for folder, content in folders.items():
        slug = folder.lower().replace(":", "").replace(" ", "-")
        meta: Any = {
            "name": f"{part}-{slug}",
            "namespace": namespace,
            "labels": {**labels(part, "observability"), **({"grafana_dashboard": "1"} if sidecar else {})},
            **({"annotations": {"grafana_folder": folder}} if sidecar else {}),
        }
        made[folder] = k8s.core.v1.ConfigMap(
            f"{name}-{slug}",
            metadata=meta,
            data={f"{board}.json": json.dumps(one, indent=1) for board, one in content.items()},
            opts=child,
        )
    return made
