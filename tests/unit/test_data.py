"""Resources of the data layer, derived from the services' intents and its configuration."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import event_schemas
from components.config.data import Cache, Data, Kafka, Nats, Postgres, shrunk
from components.config.parse import parse
from components.data import (
    cache,
    change_data_capture,
    kafka_access,
    kafka_cluster,
    kafka_topic,
    layer,
    nats,
    needs,
    postgres_cluster,
)
from components.data.document import digest as task_digest
from components.data.kafka_inputs import KafkaUser
from components.data.nats_inputs import NatsAccount
from components.data.needs import login_systems, topics
from components.data.postgres_inputs import PostgresInputs
from components.security.opa import DATA
from components.services.registry import SERVICES
from tests.stack_files import stack_file
from tests.unit.test_platform import of_kind, registered

pytestmark = pytest.mark.xdist_group("tree")


WRITERS = {**SERVICES, DATA.name: DATA}
"""The services, and OPA, which writes a topic, too."""


def data(environment: str) -> Data:
    return parse(stack_file(environment)).data


def test_every_topic_with_a_reader_has_a_writer() -> None:
    written = {topic for intent in WRITERS.values() for topic in (*intent.produces, *intent.outbox)}
    assert {topic for intent in SERVICES.values() for topic in intent.consumes} <= written


@pytest.mark.parametrize("topic", topics(SERVICES))
def test_a_topic_can_be_named_in_kubernetes(topic: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", topic)


def test_every_topic_has_a_schema() -> None:
    assert set(event_schemas.current()) == set(topics(SERVICES))


def test_a_topic_has_one_writer_unless_its_events_name_their_service() -> None:
    written = [topic for intent in WRITERS.values() for topic in (*intent.produces, *intent.outbox)]
    shared = {topic for topic in written if written.count(topic) > 1}
    assert all("service" in event_schemas.current()[topic]["required"] for topic in shared)


def test_a_key_bucket_has_one_writer() -> None:
    written = [bucket for intent in SERVICES.values() for bucket in intent.keeps]
    assert len(written) == len(set(written))
    followed = {bucket for intent in SERVICES.values() for bucket in intent.follows}
    assert followed <= set(written)


def test_servers_of_nats_know_one_another() -> None:
    passwords = dict.fromkeys([*SERVICES, nats.OWNER], "x")
    accounts = {name: NatsAccount(**needs.nats_account(record)) for name, record in SERVICES.items()}
    text = nats.configuration(Nats(replicas=3), "bus", "space", passwords, accounts)
    cluster = json.loads(text.replace("$HOSTNAME", '"name"'))["cluster"]
    assert cluster["routes"] == [f"nats://routes:x@bus-{n}.bus-nodes.space.svc:6222" for n in range(3)]
    assert (cluster["authorization"]["user"], cluster["authorization"]["password"]) == ("routes", "x")


def test_rights_in_kafka_follow_from_the_intents() -> None:
    users = [KafkaUser.model_validate(user) for user in needs.kafka_users(SERVICES, capture=True)]
    found = {user.name: kafka_access.rights(user) for user in users}
    writes = {(user, r["name"]) for user, rights in found.items() for r in rights if r["operation"] == "WRITE"}
    own = {(s.name, topic) for s in SERVICES.values() for topic in s.produces}
    captured = {("capture", topic) for s in SERVICES.values() for topic in s.outbox}
    assert writes == own | captured


@pytest.mark.parametrize("environment", ["local", "dev", "staging", "prod"])
def test_each_topic_and_each_login_of_kafka_is_a_resource_that_a_preview_shows(environment: str) -> None:
    shown = {kind: {r.name for r in of_kind(environment, kind)} for kind in (":KafkaTopic", ":KafkaAccess")}
    assert shown[":KafkaTopic"] == {f"{environment}-kafka-topic-{topic}" for topic in topics(SERVICES)}
    writers = WRITERS if parse(stack_file(environment)).security.opa else SERVICES
    logins = [user["name"] for user in needs.kafka_users(writers, capture=True)]
    assert shown[":KafkaAccess"] == {f"{environment}-kafka-access-{login}" for login in logins}


@pytest.mark.parametrize("environment", ["local", "prod"])
def test_the_kafka_task_receives_the_declared_topics(environment: str) -> None:
    maps = of_kind(environment, ":ConfigMap")
    written = {r.inputs["metadata"].get("name", r.name): r.inputs["data"] for r in maps}
    (task,) = [r for r in of_kind(environment, ":Job") if r.name.endswith("-kafka-provision")]
    pod = task.inputs["spec"]["template"]["spec"]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "documents"]
    given = {source["configMap"]["name"] for source in volume["projected"]["sources"]}
    assert given == {name for name in written if name.startswith(("kafka-topic-", "kafka-access-"))}
    rendered = {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}
    assert rendered["DOCUMENTS"] == task_digest({name: written[name]["document.json"] for name in given})


@pytest.mark.parametrize(("brokers", "copies", "least"), [(1, 1, "1"), (3, 3, "2"), (5, 3, "2")])
def test_an_event_is_kept_by_more_than_one_broker_where_there_are_some(brokers: int, copies: int, least: str) -> None:
    topic = kafka_topic.specification("any.v1", brokers, 6, 24)
    assert (topic["copies"], topic["settings"]["min.insync.replicas"]) == (copies, least)
    text = kafka_cluster.properties(Kafka(replicas=brokers), "kafka", "space")
    assert f"default.replication.factor={copies}\n" in text
    assert "unclean.leader.election.enable=false" in text
    assert "auto.create.topics.enable=false" in text


def test_a_user_of_the_cache_has_its_own_keys_and_nothing_dangerous() -> None:
    lines = cache.access_list({"prompt": "secret", cache.OWNER: "other"}).splitlines()
    user = next(line for line in lines if line.startswith("user prompt"))
    assert f"#{hashlib.sha256(b'secret').hexdigest()}" in user
    assert "~prompt:*" in user
    assert {"-@dangerous", "-scan"} <= set(user.split())
    assert "secret" not in user
    assert "user default off" in lines


def test_the_cache_keeps_room_for_its_buffers() -> None:
    text = cache.settings(Cache.model_validate({"resources": {"memory": "400Mi"}}))
    assert f"maxmemory {300 * 2**20}\n" in text


@given(st.integers(256, 65_536))
def test_postgres_takes_a_quarter_of_the_memory_for_itself(megabytes: int) -> None:
    config = Postgres.model_validate({"resources": {"memory": f"{megabytes}Mi"}})
    assert f"shared_buffers = '{megabytes // 4}MB'" in postgres_cluster.settings(config, True)


def test_without_an_object_store_no_log_is_archived() -> None:
    assert "archive_mode = 'off'" in postgres_cluster.settings(Postgres(), False)


def test_each_service_with_tables_has_a_database_of_its_own() -> None:
    asked = needs.databases(Data(), SERVICES)
    inputs = PostgresInputs.model_validate(
        {"namespace": "space", "kubernetes_name": "postgres", "image": "i", "exporters_image": "i", "databases": asked}
    )
    wanted: Any = postgres_cluster.wanted(inputs)
    own = {(d["name"], d["login"]) for d in wanted["databases"]}
    assert {(s.name, s.name) for s in SERVICES.values() if s.database} <= own
    assert all(name == login for name, login in own)


def test_each_outbox_has_a_connector() -> None:
    found = change_data_capture.connectors("postgres", [s.name for s in SERVICES.values() if s.outbox])
    assert set(found) == {f"outbox-{s.name}" for s in SERVICES.values() if s.outbox}
    assert all("password" not in key or "${dir:" in value for c in found.values() for key, value in c.items())


def test_a_bucket_has_one_owner() -> None:
    owned = [bucket for intent in SERVICES.values() for bucket in intent.buckets]
    assert len({*owned, layer.BUCKET}) == len(owned) + 1


def test_a_login_has_passwords_for_what_is_there_only() -> None:
    found = login_systems(Data.model_validate({"nats": {}}), SERVICES)
    assert all(systems == ["nats"] for systems in found.values())
    assert "capture" not in found


def test_nothing_is_made_where_nothing_is_configured() -> None:
    assert login_systems(Data(), SERVICES) == {}


@pytest.mark.parametrize("environment", ["local", "dev", "staging", "prod"])
def test_no_password_is_in_a_config_map(environment: str) -> None:
    for resource in of_kind(environment, ":ConfigMap"):
        assert "x" * 40 not in json.dumps(resource.inputs.get("data"), default=str)


@pytest.mark.parametrize("environment", ["dev", "staging"])
def test_volumes_outlive_their_servers(environment: str) -> None:
    sets = {r.inputs["metadata"]["name"]: r.inputs["spec"] for r in of_kind(environment, ":StatefulSet")}
    kept = {n: s["persistentVolumeClaimRetentionPolicy"] for n, s in sets.items() if "volumeClaimTemplates" in s}
    assert set(kept) >= {"postgres", "kafka", "nats", "object-store"}
    assert all(policy["whenDeleted"] == "Retain" for policy in kept.values())


def test_brokers_are_spread_and_updated_one_at_a_time() -> None:
    budgets = {r.inputs["metadata"]["name"]: r.inputs["spec"] for r in of_kind("staging", ":PodDisruptionBudget")}
    assert budgets["kafka"]["maxUnavailable"] == 1
    sets = {r.inputs["metadata"]["name"]: r.inputs["spec"] for r in of_kind("staging", ":StatefulSet")}
    assert sets["kafka"]["template"]["spec"]["topologySpreadConstraints"]


def test_only_the_zone_lookup_of_brokers_may_call_kubernetes() -> None:
    sets = {r.inputs["metadata"]["name"]: r.inputs["spec"] for r in of_kind("staging", ":StatefulSet")}
    pod = sets["kafka"]["template"]["spec"]
    mounts = {c["name"]: {m["name"] for m in c["volumeMounts"]} for c in (*pod["initContainers"], *pod["containers"])}
    assert [name for name, volumes in mounts.items() if "account" in volumes] == ["zone"]
    rules = [r.inputs["rules"] for r in of_kind("staging", ":ClusterRole") if r.name.endswith("-kafka-zone")]
    assert rules == [[{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]]


def test_every_data_server_is_in_the_mesh_policy() -> None:
    policies = {r.inputs["metadata"]["name"] for r in registered("staging") if r.typ.endswith(":AuthorizationPolicy")}
    assert {f"allow-{part}" for part in ("postgres", "kafka", "nats", "cache", "object-store")} <= policies


@pytest.mark.parametrize("environment", ["local", "dev", "staging"])
def test_the_volume_size_of_each_replica_is_applied(environment: str) -> None:
    sets = {r.inputs["metadata"]["name"]: r.inputs["spec"] for r in of_kind(environment, ":StatefulSet")}
    wanted = {
        f"data-{name}-{number}": spec["volumeClaimTemplates"][0]["spec"]
        for name, spec in sets.items()
        if "volumeClaimTemplates" in spec
        for number in range(int(spec["replicas"]))
    }
    rendered = {
        r.inputs["metadata"]["name"]: r.inputs["spec"] for r in of_kind(environment, ":PersistentVolumeClaimPatch")
    }
    assert rendered == wanted


def test_every_data_server_gives_metrics() -> None:
    for resource in of_kind("local", ":StatefulSet"):
        pod = resource.inputs["spec"]["template"]
        if resource.name in ("local-prometheus", "local-log-store"):
            continue  # no data servers of the platform's, and in namespaces of their own
        port = int(pod["metadata"]["annotations"]["prometheus.io/port"])
        offered = [p["containerPort"] for c in pod["spec"]["containers"] for p in c["ports"]]
        assert port in offered, resource.name


def test_a_smaller_volume_is_reported() -> None:
    before, after = (Data.model_validate({"kafka": {"storage": size}}) for size in ("20Gi", "10Gi"))
    assert shrunk(before, after) == ["data.kafka.storage"]
    assert shrunk(after, before) == []


BASE = {
    "type": "object",
    "required": ["a"],
    "properties": {"a": {"type": "string"}, "b": {"enum": ["x", "y"]}, "n": {"type": "integer", "minimum": 0}},
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"required": ["a", "b"]}, "b was optional"),
        ({"type": "array"}, "of type object, and is array"),
        ({"properties": {"a": {"type": "integer"}}}, "data.a was of type string"),
        ({"properties": {"b": {"enum": ["x"]}}}, "may no longer be y"),
        ({"properties": {"n": {"type": "integer", "minimum": 1}}}, "minimum 1"),
        ({"properties": {"a": {"type": "string", "pattern": "^x"}}}, "another pattern"),
        ({"properties": {"a": {"type": "string", "enum": ["q"]}}}, "was free"),
    ],
)
def test_a_schema_that_refuses_old_events_is_incompatible(change: dict[str, Any], reason: str) -> None:
    found = list(event_schemas.broken(BASE, {**BASE, **change}))
    assert any(reason in text for text in found), found


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"required": []},
        {"properties": {**BASE["properties"], "new": {"type": "string"}}},  # type: ignore[dict-item]
        {"properties": {"b": {"enum": ["x", "y", "z"]}}},
        {"properties": {"n": {"type": "integer"}}},
    ],
)
def test_a_schema_that_takes_old_events_is_compatible(change: dict[str, Any]) -> None:
    assert list(event_schemas.broken(BASE, {**BASE, **change})) == []


def test_every_topic_has_a_released_schema() -> None:
    released = json.loads(event_schemas.RELEASED.read_text())
    assert set(released) == set(topics(SERVICES)) and event_schemas.findings(released, event_schemas.current()) == []


@pytest.mark.parametrize("refused", [event_schemas.refuse, event_schemas.release])
def test_a_schema_that_breaks_what_is_released_is_refused(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = event_schemas.current()
    changed["usage.recorded.v1"]["required"] = [*changed["usage.recorded.v1"]["required"], "colour"]
    for topic, schema in changed.items():
        (tmp_path / f"{topic}.json").write_text(json.dumps(schema))
    before = event_schemas.RELEASED.read_text()
    monkeypatch.setattr(event_schemas, "FOLDER", tmp_path)
    with pytest.raises(event_schemas.IncompatibleSchema, match=r"usage\.recorded\.v1: data\.colour was optional"):
        refused()
    assert event_schemas.RELEASED.read_text() == before


def test_a_deleted_topic_is_reported() -> None:
    assert event_schemas.findings({"t": BASE}, {}) == [("t", "the topic is gone")]
