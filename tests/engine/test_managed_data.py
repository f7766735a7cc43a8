"""Managed data services through the real engine and a simulated account: created, changed, retained, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest
from kubernetes import client

from components.cluster.aws_foundation import AwsFoundation
from components.cluster.aws_site import AwsSite
from components.config.data import Kafka, Postgres
from components.config.managed import S3 as S3Config
from components.data.msk import Msk
from components.data.rds import Rds
from components.data.s3 import S3
from tests.engine.definitions import installed
from tests.engine.test_aws import Cloud, _config

pytestmark = pytest.mark.engine
PASSWORD = "not-to-be-seen-in-any-state"


@pytest.fixture(scope="module", autouse=True)
def karpenter(api: client.ApiClient) -> Any:
    """The CRDs of Karpenter, as its chart would bring them."""
    with installed(api, "karpenter/*"):
        yield


def program(*, storage: str = "20Gi", destroy_data: bool = True) -> Callable[[], None]:
    """A network, and one of each managed data service."""

    def made() -> None:
        foundation = AwsFoundation("foundation", _config("dev"))
        site = AwsSite.model_validate(foundation.site)
        options = pulumi.ResourceOptions(providers={"aws": foundation.account})
        secret = pulumi.Output.secret(PASSWORD)
        database = Postgres.model_validate({"storage": storage, "rds": {"instanceClass": "db.t4g.medium"}})
        Rds(
            "x-postgres",
            database,
            {"site": site, "user": "postgres", "password": secret, "destroy_data": destroy_data},
            options,
        )
        events = Kafka.model_validate({"msk": {"instanceType": "kafka.t3.small"}})
        users = {"brokers": secret, "router": secret}
        kafka = Msk("x-kafka", events, {"site": site, "users": users, "destroy_data": destroy_data}, options)
        buckets: Any = {
            "site": site,
            "namespace": "cogniforge",
            "prefix": "cogniforge-x-",
            "owners": {"documents": "retriever"},
            "prover": "object-store-task",
            "destroy_data": destroy_data,
        }
        S3("x-objects", S3Config(), buckets, options)
        pulumi.export("bootstrap", kafka.bootstrap)

    return made


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The account with all resources; at the end, all are deleted, and must be gone."""
    made = Cloud(tmp_path_factory.mktemp("aws"), "dev")
    up = made.engine.up(program())
    assert len(up.outputs["bootstrap"].value.split(",")) == 3
    yield made
    made.engine.destroy()
    assert made.kinds() == []


def test_it_is_there(cloud: Cloud) -> None:
    assert {"rds/instance:Instance", "msk/cluster:Cluster", "s3/bucket:Bucket"} <= set(cloud.kinds())


def test_it_stays_as_it_is(cloud: Cloud) -> None:
    assert set(cloud.engine.preview(program()).values()) == {"same"}


def test_passwords_are_in_no_state(cloud: Cloud) -> None:
    for name in ("x-postgres", "x-kafka-router"):
        assert PASSWORD not in json.dumps(cloud.engine.state(name))


def test_a_volume_grows_in_place(cloud: Cloud) -> None:
    planned = cloud.engine.preview(program(storage="40Gi"))
    assert {op for op in planned.values() if op != "same"} == {"update"}


def test_data_that_is_kept_stops_destroy(cloud: Cloud) -> None:
    cloud.engine.up(program(destroy_data=False))
    with pytest.raises(Exception, match="protect"):
        cloud.engine.destroy()
    cloud.engine.up(program())
    assert "rds/instance:Instance" in cloud.kinds()
