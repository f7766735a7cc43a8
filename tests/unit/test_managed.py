"""Managed data services: closed to all but the cluster's pods, encrypted, retained; and found by the pods."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.config.data import Data, Kafka, Postgres
from components.data import change_data_capture, msk, rds, s3
from components.data.kafka_cluster import SYSTEM_AUTHORITIES
from components.data.layer import images
from components.data.needs import login_systems
from components.services.registry import SERVICES
from tests.unit.test_platform import of_kind, registered_of, stack_file

pytestmark = pytest.mark.xdist_group("tree")


def one(suffix: str) -> dict[str, Any]:
    (found,) = of_kind("prod", suffix)
    return found.inputs


def environment(name: str) -> dict[str, Any]:
    found = next(r for r in of_kind("prod", ":Deployment") if r.inputs["metadata"]["name"] == name)
    return {e["name"]: e for e in found.inputs["spec"]["template"]["spec"]["containers"][0]["env"]}


def test_the_database_is_encrypted_private_and_has_a_standby() -> None:
    made = one("aws:rds/instance:Instance")
    assert made["storageEncrypted"] and made["multiAz"] and not made["publiclyAccessible"]


def test_the_database_is_deleted_only_with_a_final_snapshot() -> None:
    made = one("aws:rds/instance:Instance")
    assert made["deletionProtection"] and not made["skipFinalSnapshot"] and made["finalSnapshotIdentifier"]


def test_the_database_lets_its_log_be_read_and_refuses_plain_text() -> None:
    parameters = {p["name"]: p["value"] for p in one("aws:rds/parameterGroup:ParameterGroup")["parameters"]}
    assert parameters["rds.logical_replication"] == "1" and parameters["rds.force_ssl"] == "1"


def test_volumes_have_the_requested_size() -> None:
    assert one("aws:rds/instance:Instance")["allocatedStorage"] == 500
    nodes = one("aws:msk/cluster:Cluster")["brokerNodeGroupInfo"]
    assert nodes["storageInfo"]["ebsStorageInfo"]["volumeSize"] == 500


def test_only_the_clusters_pods_are_let_in() -> None:
    rules = [r.inputs for r in of_kind("prod", ":SecurityGroupIngressRule")]
    assert sorted(r["fromPort"] for r in rules) == [rds.PORT, msk.PORT]
    assert all(r.get("cidrIpv4") is None for r in rules)


def test_the_pool_knows_the_logins_of_services_and_not_the_administrators() -> None:
    found = next(r for r in of_kind("prod", ":StatefulSet") if r.inputs["metadata"]["name"] == "postgres")
    pod = found.inputs["spec"]["template"]["spec"]
    assert [c["name"] for c in pod["containers"]] == ["pool"] and found.inputs["spec"]["replicas"] == 2
    folders = {m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
    assert "/etc/credentials/billing" in folders and "/etc/credentials/postgres" not in folders


def test_brokers_require_tls_and_a_login() -> None:
    cluster = one("aws:msk/cluster:Cluster")
    assert cluster["encryptionInfo"]["encryptionInTransit"] == {"clientBroker": "TLS", "inCluster": True}
    assert cluster["clientAuthentication"] == {"sasl": {"scram": True}, "unauthenticated": False}


def test_every_user_of_kafka_gets_a_login_in_msk() -> None:
    users = {r.inputs["name"].rpartition("_")[2] for r in of_kind("prod", "secretsmanager/secret:Secret")}
    assert users == {"brokers", "router", "guardrails", "prompt", "retriever", "user", "billing", "audit", "capture"}


def test_services_trust_the_public_authorities() -> None:
    assert environment("router")["SERVICE_KAFKA_AUTHORITY"]["value"] == SYSTEM_AUTHORITIES
    assert f"ssl.truststore.location={SYSTEM_AUTHORITIES}" in change_data_capture.worker("b:1", 3, SYSTEM_AUTHORITIES)


def test_no_topic_is_made_by_the_way() -> None:
    assert "auto.create.topics.enable=false\n" in msk.properties(Kafka())


@pytest.mark.parametrize(
    "kind",
    ["PublicAccessBlock", "ServerSideEncryptionConfiguration", "Versioning", "LifecycleConfiguration", "Policy"],
)
def test_every_bucket_is_closed_encrypted_and_keeps_versions(kind: str) -> None:
    assert len(of_kind("prod", f":Bucket{kind}")) == len(of_kind("prod", "s3/bucket:Bucket")) == 1


def test_a_bucket_is_spoken_to_with_tls_only() -> None:
    policy = json.loads(s3._encrypted_only("arn:aws:s3:::b"))
    (statement,) = policy["Statement"]
    assert statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_a_role_reaches_its_own_bucket_alone() -> None:
    policy = json.loads(s3.allowed("arn:key", ["arn:aws:s3:::mine"], ""))
    assert {r for s in policy["Statement"] for r in s["Resource"]} == {
        "arn:aws:s3:::mine/*",
        "arn:aws:s3:::mine",
        "arn:key",
    }


def test_a_pod_comes_to_s3_with_its_role() -> None:
    variables = environment("retriever")
    assert variables["SERVICE_OBJECTS_PREFIX"]["value"] == "cogniforge-prod-333333333333-"
    assert variables["SERVICE_OBJECTS_ENDPOINT"]["value"] == "https://s3.us-east-1.amazonaws.com"
    assert "SERVICE_OBJECTS_PASSWORD" not in variables


def test_with_irsa_accounts_carry_their_role() -> None:
    content = stack_file("prod")
    content["cluster"]["eks"]["identity"] = "irsa"
    accounts = {
        r.inputs["metadata"]["name"]: r.inputs["metadata"]
        for r in registered_of(content)
        if r.typ.endswith("v1:ServiceAccount")
    }
    assert "eks.amazonaws.com/role-arn" in accounts["retriever"]["annotations"]
    assert "annotations" not in accounts["billing"]


def test_only_workloads_that_need_it_can_reach_aws() -> None:
    outlets = {r.inputs["metadata"]["name"]: r.inputs["spec"] for r in of_kind("prod", ":NetworkPolicy")}
    pods = {
        name: set(spec["podSelector"]["matchExpressions"][0]["values"])
        for name, spec in outlets.items()
        if name.endswith("-outlet")
    }
    assert pods["object-store-outlet"] == {"object-store-task", "retriever"}
    assert "billing" in pods["postgres-outlet"] and "guardrails" not in pods["postgres-outlet"]
    assert set(pods) == {"object-store-outlet", "postgres-outlet", "kafka-outlet"}


def test_backups_of_a_server_of_ours_go_to_s3_with_its_role() -> None:
    content = stack_file("prod")
    content["data"]["postgres"].pop("rds")
    found = registered_of(content)
    server = next(r for r in found if r.typ.endswith(":StatefulSet") and r.inputs["metadata"]["name"] == "postgres")
    variables = {
        e["name"]: e.get("value") for c in server.inputs["spec"]["template"]["spec"]["containers"] for e in c["env"]
    }
    assert variables["BACKUP_URL"] == "s3://cogniforge-prod-333333333333-postgres-backup"
    assert "AWS_ACCESS_KEY_ID" not in variables and "AWS_SECRET_ACCESS_KEY" not in variables


def test_a_login_has_a_password_only_for_what_asks_for_one() -> None:
    config = Data.model_validate({"objectStore": {"s3": {}}, "postgres": {}})
    assert all("objects" not in systems for systems in login_systems(config, SERVICES).values())


def test_parameters_follow_the_configuration() -> None:
    found = rds.settings(Postgres(storage="100Gi", max_connections=400))
    assert found["max_connections"] == "400" and found["max_slot_wal_keep_size"] == str(25 * 1024)


def test_only_running_images_are_required() -> None:
    config = Data.model_validate({"objectStore": {"s3": {}}})
    assert images(config) == ["data-tasks"]


def test_a_secret_of_msk_is_read_on_behalf_of_the_own_account_only() -> None:
    (statement,) = json.loads(msk.readable("arn:aws:secretsmanager:x", "123456789012"))["Statement"]
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    assert statement["Principal"] == {"Service": "kafka.amazonaws.com"}
