"""Data components in another program: without services of the platform, and two of a kind in one namespace."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.cache import Cache
from components.data.change_data_capture import ChangeDataCapture
from components.data.kafka_cluster import KafkaCluster
from components.data.nats import Nats
from components.data.object_store import ObjectStore
from components.data.postgres_cluster import PostgresCluster
from components.data.schema_registry import SchemaRegistry
from components.data.vector_database import VectorDatabase
from components.inputs import InputError
from components.security.logins import Logins
from components.services.registry import SERVICES
from policies.access.render import Recorder, run

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "registry.example.com/image@sha256:" + "0" * 64
COMMON: dict[str, Any] = {"namespace": "shop", "image": IMAGE, "tasks_image": IMAGE, "exporters_image": IMAGE}
Resources = list[pulumi.runtime.MockResourceArgs]


def made(program: Callable[[], object]) -> Resources:
    """Resources that a program registers."""
    mocks = Recorder()
    run(mocks, program)
    return mocks.resources


def without(args: Mapping[str, Any], *keys: str) -> Any:
    return {key: value for key, value in args.items() if key not in keys}


ARGS: dict[type[Any], Any] = {
    KafkaCluster: without(COMMON, "exporters_image")
    | {
        "topics": [{"name": "orders.placed.v1"}],
        "users": [{"name": "till", "produces": ["orders.placed.v1"]}, {"name": "store", "consumes": ["any.v1"]}],
    },
    PostgresCluster: without(COMMON, "tasks_image") | {"databases": [{"name": "orders"}, {"name": "stock"}]},
    Nats: COMMON | {"accounts": [{"name": "till", "sends": ["paid"]}, {"name": "store", "hears": ["paid"]}]},
    Cache: COMMON | {"users": ["till"]},
    ObjectStore: COMMON | {"buckets": {"receipts": "till"}},
}


def everything(prefix: str) -> None:
    """All eight components, connected in another program."""
    logins = Logins(
        f"{prefix}-logins",
        {
            "namespace": "shop",
            "prefix": prefix,
            "logins": {"capture": ["postgres", "kafka"], "postgres": ["postgres", "objects"], "orders": ["postgres"]},
        },
    )
    known = {"logins": logins.credentials}
    store = ObjectStore(f"{prefix}-objects", {**ARGS[ObjectStore], **known, "buckets": {"backup": "postgres"}})
    postgres = PostgresCluster(
        f"{prefix}-sql",
        {
            **ARGS[PostgresCluster],
            **known,
            "capture": True,
            "databases": [{"name": "orders", "outbox": True, "extensions": ["vector"]}],
            "backup_store": {"endpoint": store.endpoint, "bucket": "backup"},
        },
    )
    users = [{"name": "capture", "produces": ["orders.placed.v1"]}]
    kafka = KafkaCluster(f"{prefix}-events", {**ARGS[KafkaCluster], **known, "users": users})
    Nats(f"{prefix}-bus", ARGS[Nats])
    Cache(f"{prefix}-cache", ARGS[Cache])
    reached = {"namespace": "shop", "image": IMAGE, "tasks_image": IMAGE, "postgres_host": postgres.direct, **known}
    SchemaRegistry(
        f"{prefix}-schemas",
        {**reached, "guard_image": IMAGE, "database": "orders", "schemas": {"orders.placed.v1": '{"type": "object"}'}},
    )
    ChangeDataCapture(
        f"{prefix}-capture",
        {**reached, "bootstrap": kafka.bootstrap, "authority": kafka.authority, "outboxes": ["orders"]},
    )
    VectorDatabase(
        f"{prefix}-vectors",
        {
            **without(reached, "tasks_image"),
            "owner": "orders",
            "postgres_name": f"{prefix}-sql",
            "collections": [{"name": "goods", "dimension": 8}],
        },
    )


@pytest.fixture(scope="module")
def two_of_each() -> Resources:
    return made(lambda: (everything("one"), everything("two")))


def test_two_of_a_kind_share_no_object_of_a_namespace(two_of_each: Resources) -> None:
    named = [
        (resource.typ, resource.inputs["metadata"].get("namespace"), resource.inputs["metadata"]["name"])
        for resource in two_of_each
        if resource.typ.startswith("kubernetes:") and "name" in resource.inputs["metadata"]
    ]
    assert len(named) == len(set(named)) and len(named) > 100


def test_two_readers_of_outboxes_share_no_group_topic_or_slot(two_of_each: Resources) -> None:
    lines: list[list[str]] = []
    slots: list[str] = []
    for resource in two_of_each:
        if "connect.properties" in (found := resource.inputs.get("data") or {}):
            text = found["connect.properties"].splitlines()
            lines.append([line for line in text if line.startswith(("group.id", "config.storage.topic"))])
        if resource.typ.endswith(":Job") and resource.name.endswith("-capture-provision"):
            (container,) = resource.inputs["spec"]["template"]["spec"]["containers"]
            (asked,) = [one["value"] for one in container["env"] if one["name"] == "PROVISION"]
            slots += [one["slot.name"] for one in json.loads(asked)["connectors"].values()]
    assert len(lines) == 2 and not set(lines[0]) & set(lines[1])
    assert len(slots) == len(set(slots)) == 2


def test_nothing_of_the_platform_is_in_a_program_of_ones_own(two_of_each: Resources) -> None:
    text = json.dumps([resource.inputs for resource in two_of_each], default=repr)
    words = {word.strip('"') for word in text.replace("/", " ").replace("-", " ").split()}
    # "user", "router" and "audit" also occur in other configurations.
    assert not words & (set(SERVICES) - {"user", "router", "audit", "prompt"})


@pytest.mark.parametrize("component", ARGS, ids=lambda one: one.__name__)
def test_logins_of_ones_own_are_made(component: type[Any]) -> None:
    found = made(lambda: component("mine", ARGS[component]))
    secrets = {
        r.inputs["metadata"]["name"] for r in found if r.typ.endswith(":Secret") and "name" in r.inputs["metadata"]
    }
    mounted = {
        volume["secret"]["secretName"]
        for r in found
        if r.typ.endswith((":Job", ":StatefulSet"))
        for volume in r.inputs["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume and str(volume["secret"]["secretName"]).startswith("mine-login-")
    }
    assert mounted and mounted <= secrets


def refusal(component: type[Any], args: Mapping[str, Any]) -> InputError:
    with pytest.raises(InputError) as caught:
        made(lambda: component("mine", args))
    return caught.value


@pytest.mark.parametrize("component", [*ARGS, SchemaRegistry, ChangeDataCapture, VectorDatabase, Logins])
def test_missing_inputs_are_named_all_at_once(component: type[Any]) -> None:
    error = refusal(component, {})
    paths = {problem.path for problem in error.problems}
    assert "namespace" in paths and len(paths) > 1
    assert str(error).startswith(f'{component.__name__} "mine" has {len(error.problems)} problems:')


def test_every_input_error_names_the_limit_and_the_fix() -> None:
    topics = [{"name": "Orders"}, {"name": "paid", "partition": 3}]
    args = {**ARGS[KafkaCluster], "replicas": 4, "storge": "1Gi", "topics": topics, "resources": {"cpu": "many"}}
    shown = str(refusal(KafkaCluster, args))
    assert 'did you mean "storage"?' in shown and 'did you mean "partitions"?' in shown
    assert "topics[0].name" in shown and "resources.cpu" in shown and "retention_hours" in shown
    assert "1, 3 or 5 brokers" in str(refusal(KafkaCluster, {**ARGS[KafkaCluster], "replicas": 4}))


def test_a_rule_between_inputs_is_reported_beside_a_wrong_input() -> None:
    shown = str(refusal(KafkaCluster, {"namespace": "shop", "tasks_image": IMAGE, "partitions": 0}))
    assert "partitions = 0" in shown and "without msk, image is required" in shown


def test_an_output_where_a_value_is_needed_now_is_refused() -> None:
    with pytest.raises(InputError, match=r"replicas = \"\(an output\)\""):
        made(lambda: Nats("mine", {**ARGS[Nats], "replicas": pulumi.Output.from_input(3)}))


def test_an_output_is_taken_where_a_value_may_come_later() -> None:
    def program(component: type[Any]) -> None:
        component("mine", {**ARGS[component], "namespace": pulumi.Output.from_input("later")})

    for component in ARGS:
        found = made(functools.partial(program, component))
        places = {r.inputs["metadata"]["namespace"] for r in found if r.typ.endswith((":StatefulSet", ":Secret"))}
        assert places == {"later"}, component


def test_a_given_login_needs_its_password_where_the_server_lists_its_users() -> None:
    problems = refusal(Cache, {**ARGS[Cache], "logins": {"till": {"secret_name": "known"}}}).problems
    assert [problem.path for problem in problems] == ["logins.till.passwords.cache"]


def test_a_login_of_another_component_has_to_be_given() -> None:
    args = {"namespace": "shop", "image": IMAGE, "tasks_image": IMAGE, "postgres_host": "h", "bootstrap": "k:1"}
    problems = refusal(ChangeDataCapture, {**args, "outboxes": ["orders"]}).problems
    assert [problem.path for problem in problems] == ["logins.capture"]


@given(st.dictionaries(st.sampled_from([*ARGS[KafkaCluster], "replicas", "logins", "site"]), st.none() | st.integers()))
def test_no_input_ends_in_a_traceback(args: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        made(lambda: KafkaCluster("mine", args))  # pyright: ignore[reportArgumentType]


NOT_ALONE = ("area", "layer", "needs")
"""Modules that compose the components for the services' records."""


def test_data_components_do_not_know_the_platforms_services() -> None:
    modules = sorted(p.stem for p in (ROOT / "components" / "data").glob("*.py") if p.stem not in NOT_ALONE)
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(f'components.data.{{name}}')\n"
        "assert not [m for m in sys.modules if m.startswith('components.services')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
