"""A user's own service: its record, and what the platform derives from it, as for a bundled service."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components import catalogue
from components.config import custom_checks
from components.config.changes import changes
from components.config.custom import CustomPrefix, Keys, Service
from components.config.parse import parse
from components.config.problems import ConfigError
from components.data.change_data_capture import connectors
from components.data.needs import login_systems
from components.observability import alerts, dashboards
from components.services.making import variable
from components.services.registry import FRONT, SERVICES
from local import paths
from local.errors import LocalError
from local.images import catalogue as images
from tests.unit.test_platform import stack_file

EXAMPLE = paths.PROJECT / "examples" / "own-service"
DIGEST = f"ghcr.io/acme/notes@sha256:{'a' * 64}"
NOTES: dict[str, Any] = yaml.safe_load((EXAMPLE / "services.yaml").read_text())["custom"]["notes"]
EVERYTHING: dict[str, Any] = {
    **{key: value for key, value in NOTES.items() if key != "build"},
    "image": DIGEST,
    "port": 8000,
    "rpcPort": 9000,
    "readyPath": "/ready",
    "document": "/docs/openapi.json",
    "replicas": 2,
    "keys": "directory",
    "scopes": ["inference"],
    "asks": ["router", "audit-reader"],
    "asksRest": ["router", "user"],
    "kafka": {
        "produces": ["note.counted.v1"],
        "outbox": ["note.written.v1", "dead-letter.handled.v1"],
        "consumes": ["usage.recorded.v1"],
        "schemas": {
            "note.written.v1": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
        },
    },
    "ownSecrets": ["signing", "sealing"],
    "nats": {"sends": ["notes.written"], "hears": ["router.used"], "keeps": ["note_limits"]},
    "cache": True,
    "buckets": ["note-files"],
    "egress": [443],
    "secrets": {"NOTES_TOKEN": {"secret": "notes", "entry": "token"}},
}
READER: dict[str, Any] = {"image": DIGEST, "asks": ["notes"], "kafka": {"consumes": ["note.written.v1"]}}


def with_services(base: str = "local", **custom: Any) -> dict[str, Any]:
    data = copy.deepcopy(stack_file(base))
    data["services"]["custom"] = {name.replace("_", "-"): section for name, section in custom.items()}
    return data


def test_the_gateway_has_its_route_and_its_document() -> None:
    from components.mesh import entrance

    intent = entrance.intent(parse(with_services(notes=EVERYTHING, audit_reader=READER)))
    (route,) = (route for route in intent.routes if route.backend.name == "notes")
    assert (route.prefix, route.backend.host, route.backend.port) == ("/v1/notes", "notes.cogniforge", 8000)
    assert ("/openapi/notes.json", "/docs/openapi.json") in [(one.path, one.path_there) for one in intent.documents]
    assert "audit-reader" not in {route.backend.name for route in intent.routes}


def test_alerts_and_panels_follow_from_its_objectives() -> None:
    records = parse(with_services(notes=EVERYTHING, audit_reader=READER)).around.records
    groups = alerts.rules("cogniforge", frozenset(records), records.values())["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    found = {rule["alert"]: rule["expr"] for rule in rules if rule["alert"].startswith("Notes")}
    budget = {f"NotesAvailabilityBudget{speed}" for speed in ("Fast", "Slow")}
    assert set(found) == {"NotesUnavailable", "NotesLatencyHigh", "NotesNotScraped", *budget}
    assert found["NotesLatencyHigh"].startswith("histogram_quantile(0.95,") and found["NotesLatencyHigh"].endswith(
        "> 30"
    )
    assert found["NotesAvailabilityBudgetFast"].count("> 0.0144") == 2
    boards = {board.name: board for board in dashboards.chosen(frozenset(records), records.values())}
    latency = next(panel for panel in boards["notes"].panels if panel.title == "Latency")
    assert latency.queries[1].expression.startswith("histogram_quantile(0.95,")
    assert 'job="notes"' in latency.queries[1].expression


def test_a_service_without_metrics_has_only_an_alert_for_its_outage() -> None:
    record = parse(with_services(notes={**NOTES, "metrics": False})).around.records["notes"]
    assert [alert.name for alert in record.alerts] == ["NotesUnavailable"]
    assert "notes" not in [board.name for board in dashboards.chosen(frozenset(("notes",)), [record])]


def test_a_service_that_asks_user_for_keys_may_call_it_if_enabled() -> None:
    data = with_services(notes=NOTES)
    assert parse(data).around.records["notes"].asks_rest == ("router", "user")
    data["services"]["custom"]["notes"]["keys"] = "none"
    assert parse(data).around.records["notes"].asks_rest == ("router",)


def test_a_service_that_follows_the_directory_of_keys_reads_their_bucket() -> None:
    assert parse(with_services(notes={**NOTES, "keys": "directory"})).around.records["notes"].follows == ("tenants",)


def test_an_own_service_that_erases_tenants_is_waited_for() -> None:
    topics = {"consumes": ["tenant.deleted.v1"], "outbox": ["tenant.erased.v1"]}
    config = parse(with_services(notes={**NOTES, "kafka": topics}))
    (keeper,) = (record for record in config.around.records.values() if record.keeps_keys)
    variables = keeper.variables(config.services.there[keeper.name], config.around)
    assert "notes" in json.loads(variables["SERVICE_ERASED_BY"])


def test_routes_of_bundled_services_keep_their_places() -> None:
    from components.mesh import entrance

    before = [route.prefix for route in entrance.intent(parse(stack_file("local"))).routes]
    after = [route.prefix for route in entrance.intent(parse(with_services(aaa=NOTES))).routes]
    assert [prefix for prefix in after if prefix != "/v1/notes"] == before


def test_the_order_in_which_services_are_written_changes_nothing() -> None:
    other = {**NOTES, "prefixes": [{"path": "/v1/others"}]}
    one, two = parse(with_services(first=NOTES, second=other)), parse(with_services(second=other, first=NOTES))
    assert list(one.around.records.values()) == list(two.around.records.values())


def test_adding_or_removing_a_service_is_one_change_each() -> None:
    other = {**NOTES, "prefixes": [{"path": "/v1/others"}]}
    after = with_services(first={**NOTES, "replicas": 2}, second=other)
    found = changes(parse(with_services(first=NOTES)), parse(after))
    assert {one.path for one in found} == {"services.custom[first].replicas", "services.custom[second]"}


def test_an_image_that_is_built_comes_from_its_folder_on_the_kit() -> None:
    built = images.own(parse(with_services(notes=NOTES)).around.records.values())["notes"]
    assert (built.folder, built.parents, built.sources, built.wheels) == (
        EXAMPLE / "notes",
        (images.ImageName.BASE, images.ImageName.KIT),
        True,
        False,
    )
    assert images.own(parse(with_services(notes=EVERYTHING, audit_reader=READER)).around.records.values()) == {}


def test_a_folder_without_a_containerfile_is_named() -> None:
    config = parse(with_services(notes={**NOTES, "build": "examples/gateway"}))
    with pytest.raises(LocalError, match="the image of notes cannot be built"):
        images.own(config.around.records.values())


def test_the_platforms_own_names_are_reserved() -> None:
    taken = {*catalogue.PARTS, *catalogue.image_names(), *images.IMAGES}
    logins = set(login_systems(parse(stack_file("local")).data, SERVICES))
    assert taken | logins <= custom_checks.RESERVED_NAMES | SERVICES.keys()


def test_the_paths_of_the_front_service_are_those_of_its_document() -> None:
    document = json.loads((paths.PROJECT / "service_images" / FRONT.image / "openapi.json").read_text())
    others = [prefix.path for prefix in FRONT.prefixes if not prefix.path.endswith("/")]
    answered = {path for path in document["paths"] if not any(path.startswith(other) for other in others)}
    below = {path for path in answered if any(path.startswith(f"{other}/") for other in answered)}
    assert answered - below == set(FRONT.paths)


PREFIXES = sorted({prefix.path for record in SERVICES.values() for prefix in record.prefixes} | set(FRONT.paths))


@given(
    st.sampled_from([path for path in PREFIXES if path != "/v1/"]),
    st.lists(st.sampled_from(["a", "x-1", "~"]), max_size=2),
    st.booleans(),
)
def test_no_path_at_or_below_a_bundled_services_prefix_can_be_claimed(
    prefix: str, more: list[str], slash: bool
) -> None:
    path = "/".join([prefix.rstrip("/"), *more]) + ("/" if slash else "")
    section = {**NOTES, "prefixes": [{"path": path}]}
    with pytest.raises(ConfigError) as error:
        parse(with_services(notes=section))
    assert [problem.path for problem in error.value.problems] == ["services.custom.notes.prefixes[0].path"]


@given(
    st.dictionaries(
        st.sampled_from(["image", "prefixes", "keys", "asks", "database", "kafka", "nats", "environment", "port", "x"]),
        st.none() | st.integers() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()),
    )
)
def test_any_section_is_a_record_or_named_mistakes(section: dict[str, Any]) -> None:
    try:
        parse(with_services(notes=section))
    except ConfigError as error:
        assert all(problem.path.startswith("services.custom") and problem.fix for problem in error.problems)


def test_a_program_adds_a_service_as_the_stack_file_does() -> None:
    image: dict[str, Any] = {"image": DIGEST, "prefixes": [{"path": "/v1/notes"}], "keys": "asked"}
    typed = Service(image=DIGEST, prefixes=(CustomPrefix(path="/v1/notes"),), keys=Keys.ASKED)
    written = parse(with_services(notes=image)).around.records["notes"]
    assert parse(stack_file("local"), {"notes": typed}).around.records["notes"] == written
    assert parse(stack_file("local"), {"notes": image}).around.records["notes"] == written


def test_mistakes_of_a_program_are_those_of_the_stack_file() -> None:
    with pytest.raises(ConfigError) as error:
        parse({**stack_file("local"), "owner": 3}, {"notes": {"image": "notes:latest"}})
    assert {problem.path for problem in error.value.problems} == {"owner", "services.custom.notes.image"}


def test_mistakes_in_secrets_schemas_and_dead_letters_are_reported_together() -> None:
    kafka = {
        "produces": ["note.read.v1", "dead-letter.handled.v1"],
        "schemas": {"note.read.v1": {"type": "objekt"}, "note.lost.v1": {"type": "object"}},
    }
    section = {**NOTES, "prefixes": [{"path": "/v1/papers"}], "kafka": kafka, "ownSecrets": ["seal", "seal"]}
    with pytest.raises(ConfigError) as error:
        parse(with_services(notes=section))
    here = "services.custom.notes"
    assert {problem.path for problem in error.value.problems} == {
        f"{here}.prefixes",
        f"{here}.ownSecrets[1]",
        f'{here}.kafka.schemas["note.read.v1"]',
        f'{here}.kafka.schemas["note.lost.v1"]',
    }


def test_names_with_hyphens_are_variables_and_slots_with_underscores() -> None:
    assert variable("audit-reader") == "SERVICE_AUDIT_READER"
    found = connectors("postgres", ["audit-reader"])["outbox-audit-reader"]
    assert (found["slot.name"], found["database.dbname"]) == ("outbox_audit_reader", "audit-reader")
