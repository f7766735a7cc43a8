"""AWS environments through the real engine: a simulated account below, the real API server above."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pulumi.automation as auto
import pulumi_aws as aws
import pytest
import yaml
from kubernetes import client

from components.cluster.aws_foundation import AwsFoundation
from components.config.parse import parse
from components.config.platform import PlatformConfig
from local import paths
from local.node.settings import NodePaths
from local.providers.aws.account import Account
from tests.engine.conftest import Engine, Program
from tests.engine.definitions import installed

pytestmark = pytest.mark.engine


def _config(stack: str, **eks: Any) -> PlatformConfig:
    data = yaml.safe_load((paths.PROJECT / "stacks" / f"Pulumi.{stack}.yaml").read_text())["config"]
    platform = copy.deepcopy(data["cogniforge:platform"])
    platform["cluster"]["eks"].update(eks)
    return parse(platform)


def _not_default(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
    """An EKS cluster's storage class without its mark: claims of other tests, in the same API server, would get it."""
    if args.type_ != "kubernetes:storage.k8s.io/v1:StorageClass":
        return None
    metadata = {**args.props["metadata"], "annotations": {}}
    return pulumi.ResourceTransformationResult({**args.props, "metadata": metadata}, args.opts)


class _CloudEngine(Engine):
    """An engine whose programs leave the node's default storage class as it is."""

    def _run(self, operation: str, program: Program | None, **options: Any) -> Any:
        def marked() -> None:
            pulumi.runtime.register_stack_transformation(_not_default)
            assert program is not None
            program()

        return super()._run(operation, program and marked, **options)


class Cloud:
    """An engine with a simulated account, whose clusters use the local node's API server."""

    def __init__(self, folder: Path, stack: str) -> None:
        self.account = Account(folder / "account")
        self.engine = _CloudEngine(
            folder,
            stack,
            COGNIFORGE_SIMULATED_AWS=str(folder / "account"),
            COGNIFORGE_SIMULATED_EKS=str(NodePaths().kubeconfig),
            PATH=os.pathsep.join([str(Path(__file__).parent / "bin"), str(Path(sys.executable).parent), _path(folder)]),
        )
        self.set("quotas", {"vpcs": 5, "eips": 5, "L-417A185B": 1000})

    def set(self, name: str, content: Any) -> None:
        """Write one of the account's files: quotas, failures, lag."""
        (self.account.folder / f"{name}.json").write_text(json.dumps(content))

    def fail(self, failure: str, verb: str, kind: str, times: int, name: str = "") -> None:
        """Make calls fail."""
        self.set("failures", [{"failure": failure, "verb": verb, "kind": kind, "times": times, "name": name}])

    def kinds(self) -> list[str]:
        """Existing resources by type."""
        return [record["kind"] for record in self.account.everything()]


def _path(folder: Path) -> str:
    from local.toolchain import builder, shim
    from local.toolchain.tools import ToolName

    return f"{builder.resolve(ToolName.PULUMI).parent}:{shim.environment()['PATH']}"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path, "dev")
    yield made
    made.set("failures", [])
    made.engine.destroy()


@pytest.fixture(scope="module")
def karpenter(api: client.ApiClient) -> Iterator[None]:
    """The CRDs of Karpenter, as its chart would bring them."""
    with installed(api, "karpenter/*"):
        yield


def _foundation(config: PlatformConfig) -> Callable[[], None]:
    return lambda: pulumi.export("cluster", AwsFoundation("foundation", config).provider.urn)


def _small() -> Callable[[], None]:
    """The beginning of a network and a role, in which calls can fail."""

    def program() -> None:
        network = aws.ec2.Vpc("network", cidr_block="10.0.0.0/16")
        for index in range(3):
            aws.ec2.Subnet(f"subnet-{index}", vpc_id=network.id, cidr_block=f"10.0.{index}.0/24")

    return program


def test_an_environment_is_created_kept_and_removed(cloud: Cloud, karpenter: None) -> None:
    program = _foundation(_config("dev"))
    cloud.engine.up(program)
    made = set(cloud.kinds())
    assert {"eks/cluster:Cluster", "eks/nodeGroup:NodeGroup", "ec2/flowLog:FlowLog", "sqs/queue:Queue"} <= made
    assert set(cloud.engine.preview(program).values()) == {"same"}
    cloud.engine.destroy()
    assert cloud.kinds() == []


def test_a_managed_autoscaler_with_irsa_comes_up(cloud: Cloud) -> None:
    config = _config("dev", autoscaler="managed", identity="irsa")
    cloud.engine.up(_foundation(config))
    assert cloud.kinds().count("eks/nodeGroup:NodeGroup") == 3
    assert "iam/openIdConnectProvider:OpenIdConnectProvider" in cloud.kinds()


def test_throttled_calls_are_tried_again(cloud: Cloud) -> None:
    cloud.fail("throttle", "create", "subnet", 4)
    cloud.engine.up(_small())
    assert cloud.kinds().count("ec2/subnet:Subnet") == 3


def test_throttling_without_end_is_reported(cloud: Cloud) -> None:
    cloud.fail("throttle", "create", "subnet", 1000)
    assert "ThrottlingException" in cloud.engine.failing_up(_small())


def test_an_update_that_failed_half_way_is_resumed(cloud: Cloud) -> None:
    cloud.fail("denied", "create", "subnet", 1, "subnet-1")
    assert "AccessDenied" in cloud.engine.failing_up(_small())
    cloud.engine.up(_small())
    assert cloud.kinds().count("ec2/subnet:Subnet") == 3
    assert cloud.kinds().count("ec2/vpc:Vpc") == 1


def test_a_resource_that_failed_after_its_creation_is_kept_and_repaired(cloud: Cloud) -> None:
    cloud.fail("partial", "create", "subnet", 1, "subnet-1")
    assert "did not become active" in cloud.engine.failing_up(_small())
    cloud.engine.up(_small())
    assert cloud.kinds().count("ec2/subnet:Subnet") == 3


def test_destroy_after_a_failed_update_leaves_nothing(cloud: Cloud) -> None:
    cloud.fail("partial", "create", "subnet", 1, "subnet-1")
    cloud.engine.failing_up(_small())
    cloud.engine.destroy()
    assert cloud.kinds() == []


def test_reads_that_lag_behind_are_waited_for(cloud: Cloud) -> None:
    cloud.set("lag", {"ec2/vpc:Vpc": 5})
    cloud.engine.up(_small())
    assert cloud.kinds().count("ec2/vpc:Vpc") == 1


def test_drift_is_seen_and_repaired(cloud: Cloud) -> None:
    cloud.engine.up(_small())
    record = next(r for r in cloud.account.everything() if r["kind"] == "ec2/vpc:Vpc")
    cloud.account.put(record["kind"], record["id"], {**record["properties"], "enableDnsSupport": False})

    def program() -> None:
        aws.ec2.Vpc("network", cidr_block="10.0.0.0/16", enable_dns_support=True)

    cloud.engine.up(program)
    record = next(r for r in cloud.account.everything() if r["kind"] == "ec2/vpc:Vpc")
    cloud.account.put(record["kind"], record["id"], {**record["properties"], "enableDnsSupport": False})
    assert cloud.engine.refresh(program)["update"] == 1
    cloud.engine.up(program)
    assert next(cloud.account.everything())["properties"]["enableDnsSupport"] is True


def test_a_quota_that_is_used_up_is_reported(cloud: Cloud) -> None:
    cloud.set("quotas", {"vpcs": 0})
    assert "LimitExceeded" in cloud.engine.failing_up(_small())


def test_gpu_nodes_over_the_quota_are_refused(cloud: Cloud) -> None:
    cloud.set("quotas", {"L-417A185B": 0})

    def program() -> None:
        aws.eks.NodeGroup(
            "gpu",
            cluster_name="c",
            node_role_arn="arn:aws:iam::000000000000:role/x",
            subnet_ids=["subnet-1"],
            instance_types=["p5.48xlarge"],
            scaling_config={"min_size": 1, "max_size": 1, "desired_size": 1},
        )

    assert "VcpuLimitExceeded: 192 vCPUs requested" in cloud.engine.failing_up(program)


def test_a_network_cannot_be_deleted_before_its_content(cloud: Cloud) -> None:
    cloud.engine.up(_small())
    identity = next(r["id"] for r in cloud.account.everything() if r["kind"] == "ec2/vpc:Vpc")
    with pytest.raises(Exception, match="DependencyViolation"):
        cloud.account.remove("ec2/vpc:Vpc", identity)


def test_destroy_of_protected_data_is_refused(cloud: Cloud) -> None:
    def program(protect: bool = True) -> None:
        aws.ec2.Vpc("network", cidr_block="10.0.0.0/16", opts=pulumi.ResourceOptions(protect=protect))

    cloud.engine.up(program)
    with pytest.raises(Exception, match="protect"):
        cloud.engine.destroy()
    assert cloud.kinds() == ["ec2/vpc:Vpc"]
    cloud.engine.up(lambda: program(protect=False))


def test_without_a_simulated_account_an_update_is_refused(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    assert "never accesses AWS" in engine.failing_up(_small())
    engine.destroy()


_WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("aws:eks/cluster:Cluster", {"vpcConfig": {"subnetIds": []}}, "required"),
    ("aws:eks/nodeGroup:NodeGroup", {"capacityType": "CHEAP"}, '"CHEAP" is not one of ON_DEMAND, SPOT'),
    ("aws:ec2/vpc:Vpc", {"cidrBlok": "10.0.0.0/16"}, "unknown field"),
    ("aws:ec2/vpc:Vpc", {"cidrBlock": 5}, "expected a string"),
    ("aws:iam/role:Role", {"assumeRolePolicy": "{"}, "must be JSON"),
    ("aws:eks/cluster:Cluster", {"name": "-bad-", "roleArn": "r", "vpcConfig": {}}, "does not match"),
    ("aws:eks/cluster:Gluster", {}, "not a resource of the installed pulumi-aws"),
]


@pytest.mark.parametrize(("kind", "properties", "message"), _WRONG)
def test_wrong_inputs_are_refused_in_the_preview(
    tmp_path: Path, kind: str, properties: dict[str, Any], message: str
) -> None:
    engine = Engine(tmp_path)
    with pytest.raises(auto.errors.CommandError) as failure:
        engine.preview(lambda: pulumi.CustomResource(kind, "wrong", properties) and None)
    assert message in str(failure.value)


def _cluster(version: str) -> Callable[[], None]:
    def program() -> None:
        aws.eks.Cluster(
            "c",
            name="c",
            version=version,
            role_arn="arn:aws:iam::000000000000:role/x",
            vpc_config={"subnet_ids": ["subnet-1", "subnet-2"]},
        )

    return program


def test_a_kubernetes_version_cannot_be_skipped(cloud: Cloud) -> None:
    cloud.engine.up(_cluster("1.32"))
    with pytest.raises(auto.errors.CommandError, match=r"from 1\.32 to 1\.34: one minor version up at a time"):
        cloud.engine.preview(_cluster("1.34"))


def test_kubernetes_is_upgraded_step_by_step(cloud: Cloud) -> None:
    for version in ("1.32", "1.33", "1.34"):
        cloud.engine.up(_cluster(version))
    record = next(r for r in cloud.account.everything() if r["kind"] == "eks/cluster:Cluster")
    assert record["properties"]["version"] == "1.34"
