"""Karpenter: adds nodes for pending pods, and removes nodes that are no longer needed."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components.base import PlatformComponent
from components.cluster import iam
from components.cluster.eks_inputs import KarpenterArgs, KarpenterInputs
from components.cluster.iam import WorkloadRole
from components.config.eks import NodePool
from components.delivery.chart import Operator
from components.inputs import checked

NAMESPACE = "kube-system"
API_VERSION = "karpenter.sh/v1"
CLASS_API_VERSION = "karpenter.k8s.aws/v1"
EXPIRE_AFTER = "720h"
"""Lifetime of a node: 30 days. Its replacement boots the current, patched image."""
_EVENTS = {
    "interruption": {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]},
    "rebalance": {"source": ["aws.ec2"], "detail-type": ["EC2 Instance Rebalance Recommendation"]},
    "state": {"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"]},
    "health": {"source": ["aws.health"], "detail-type": ["AWS Health Event"]},
}


class KarpenterResources(NamedTuple):
    """Resources of Karpenter."""

    operator: Operator
    queue: aws.sqs.Queue
    """Interruptions of nodes."""
    node_pools: tuple[k8s.apiextensions.CustomResource, ...]
    """Pools without GPUs."""


class Karpenter(PlatformComponent):
    """The controller, its queue for interruption notices, and the pools without GPUs."""

    def __init__(self, name: str, args: KarpenterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self._cluster = cluster = checked(KarpenterInputs, self, name, args)
        super().__init__("cluster", name, {}, opts)
        queue = self._queue()
        role = WorkloadRole(
            name,
            cluster.cluster_name,
            cluster.issuer,
            (NAMESPACE, "karpenter"),
            self.child(),
            policy=pulumi.Output.all(cluster.cluster_name, cluster.node_role_arn, queue.arn, cluster.key_arn).apply(
                lambda known: controller_policy(cluster.region, cluster.account_id, *known)
            ),
        )
        aws.eks.AccessEntry(
            f"{name}-node",
            cluster_name=cluster.cluster_name,
            principal_arn=cluster.node_role_arn,
            type="EC2_LINUX",
            opts=self.child(),
        )
        self.operator = Operator(
            "cluster",
            f"{name}-controller",
            {
                "chart": "karpenter",
                "namespace": NAMESPACE,
                "deployment": "karpenter",
                "values": {
                    "replicas": 2,
                    "serviceAccount": {"name": "karpenter", "annotations": role.annotations},
                    "settings": {
                        "clusterName": cluster.cluster_name,
                        "interruptionQueue": queue.name,
                        "featureGates": {"nodeOverlay": cluster.node_overlays, "spotToSpotConsolidation": True},
                    },
                    "controller": {
                        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
                    },
                },
            },
            self.child(),
        )
        pools = tuple(self._pool(pool) for pool in cluster.node_pools)
        self.resources = KarpenterResources(self.operator, queue, pools)
        self.finish(
            {"kind": "Deployment", "namespace": NAMESPACE, "name": "karpenter", "probe": "two replicas are available"}
        )

    def _queue(self) -> aws.sqs.Queue:
        queue = aws.sqs.Queue(self.name, message_retention_seconds=300, sqs_managed_sse_enabled=True, opts=self.child())
        sender = {"Service": ["events.amazonaws.com", "sqs.amazonaws.com"]}
        secure = {"Bool": {"aws:SecureTransport": "false"}}
        aws.sqs.QueuePolicy(
            self.name,
            queue_url=queue.url,
            policy=queue.arn.apply(
                lambda arn: iam.document(
                    [
                        {"Effect": "Allow", "Principal": sender, "Action": "sqs:SendMessage", "Resource": arn},
                        {
                            "Effect": "Deny",
                            "Principal": "*",
                            "Action": "sqs:*",
                            "Resource": arn,
                            "Condition": secure,
                        },
                    ]
                )
            ),
            opts=self.child(),
        )
        for event, pattern in _EVENTS.items():
            rule = aws.cloudwatch.EventRule(
                f"{self.name}-{event}", event_pattern=json.dumps(pattern), opts=self.child()
            )
            aws.cloudwatch.EventTarget(f"{self.name}-{event}", rule=rule.name, arn=queue.arn, opts=self.child())
        return queue

    def _pool(self, pool: NodePool) -> k8s.apiextensions.CustomResource:
        cluster = self._cluster
        node_class = node_class_spec(cluster.cluster_name, cluster.node_role_name, pool.disk_gib, "al2023@latest")
        made = k8s.apiextensions.CustomResource(
            f"{self.name}-{pool.name}-class",
            api_version=CLASS_API_VERSION,
            kind="EC2NodeClass",
            metadata={"name": pool.name},
            spec=node_class,
            opts=self._after_operator(),
        )
        return k8s.apiextensions.CustomResource(
            f"{self.name}-{pool.name}",
            api_version=API_VERSION,
            kind="NodePool",
            metadata={"name": pool.name},
            spec=node_pool_spec(
                pool.name, list(pool.instance_types), pool.capacity.value, {"nodes": str(pool.max_nodes)}, {}, []
            ),
            opts=self._after_operator(made),
        )

    def _after_operator(self, *others: pulumi.Resource) -> pulumi.ResourceOptions:
        return self.child(depends_on=[self.operator, *others])


def node_class_spec(
    cluster: pulumi.Input[str], role: pulumi.Input[str], disk_gib: int, image_alias: str
) -> dict[str, Any]:
    """Spec of an EC2NodeClass: private subnets, encrypted disk, no access to instance metadata from pods."""
    discovery = [{"tags": {"karpenter.sh/discovery": cluster}}]
    return {
        "role": role,
        "amiSelectorTerms": [{"alias": image_alias}],
        "subnetSelectorTerms": discovery,
        "securityGroupSelectorTerms": [{"tags": {"aws:eks:cluster-name": cluster}}],
        "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
        "blockDeviceMappings": [
            {
                "deviceName": "/dev/xvda",
                "ebs": {
                    "volumeSize": f"{disk_gib}Gi",
                    "volumeType": "gp3",
                    "encrypted": True,
                    "deleteOnTermination": True,
                },
            }
        ],
        "tags": {"cogniforge.dev/managed-by": "karpenter"},
    }


def node_pool_spec(
    node_class: str,
    instance_types: list[str],
    capacity: str,
    limits: dict[str, str],
    labels: dict[str, str],
    taints: list[dict[str, str]],
    *,
    consolidate: str = "WhenEmptyOrUnderutilized",
) -> dict[str, Any]:
    """Spec of a Karpenter NodePool. Nodes with GPUs are removed only when empty, since moving a model is expensive."""
    return {
        "template": {
            "metadata": {"labels": {"cogniforge.dev/pool": node_class, **labels}},
            "spec": {
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": node_class},
                "expireAfter": EXPIRE_AFTER,
                **({"taints": taints} if taints else {}),
                "requirements": [
                    {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": instance_types},
                    {"key": "karpenter.sh/capacity-type", "operator": "In", "values": [capacity]},
                    {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
                ],
            },
        },
        "limits": limits,
        "disruption": {
            "consolidationPolicy": consolidate,
            "consolidateAfter": "5m",
            "budgets": [{"nodes": "10%"}],
        },
    }


def controller_policy(region: str, account: str, cluster: str, node_role_arn: str, queue_arn: str, key_arn: str) -> str:
    """IAM policy of Karpenter: it may change only resources with this cluster's tags.

    Source: Karpenter's CloudFormation template 1.x.
    """
    ec2 = f"arn:aws:ec2:{region}"
    owned = {f"aws:ResourceTag/kubernetes.io/cluster/{cluster}": "owned"}
    tagging = {f"aws:RequestTag/kubernetes.io/cluster/{cluster}": "owned"}
    own = [f"{ec2}:{account}:{kind}/*" for kind in ("instance", "fleet", "volume", "network-interface")]
    own += [f"{ec2}:{account}:{kind}/*" for kind in ("launch-template", "spot-instances-request")]
    shared = [f"{ec2}::image/*", f"{ec2}::snapshot/*", f"{ec2}:{account}:subnet/*"]
    shared += [f"{ec2}:{account}:security-group/*", f"{ec2}:{account}:capacity-reservation/*"]
    profiles = f"arn:aws:iam::{account}:instance-profile/*"
    describe = [
        f"ec2:Describe{what}"
        for what in (
            "AvailabilityZones",
            "CapacityReservations",
            "Images",
            "InstanceTypeOfferings",
            "InstanceTypes",
            "Instances",
            "InstanceStatus",
            "LaunchTemplates",
            "SecurityGroups",
            "SpotPriceHistory",
            "Subnets",
        )
    ]
    run = ["ec2:RunInstances", "ec2:CreateFleet"]
    profile_changes = ["iam:CreateInstanceProfile", "iam:TagInstanceProfile", "iam:DeleteInstanceProfile"]
    profile_changes += ["iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:GetInstanceProfile"]
    return iam.document(
        [
            iam.statement(run, shared),
            iam.statement([*run, "ec2:CreateLaunchTemplate"], own, {"StringEquals": tagging}),
            iam.statement(
                ["ec2:CreateTags"],
                own,
                {"StringEquals": {"ec2:CreateAction": ["RunInstances", "CreateFleet", "CreateLaunchTemplate"]}},
            ),
            iam.statement(["ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"], own, {"StringEquals": owned}),
            # Describe actions do not support resource ARNs: AWS accepts "*" only.
            iam.statement(describe, ["*"], {"StringEquals": {"aws:RequestedRegion": region}}),
            iam.statement(["pricing:GetProducts"], ["*"]),
            iam.statement(["ssm:GetParameter"], [f"arn:aws:ssm:{region}::parameter/aws/service/*"]),
            iam.statement(["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"], [queue_arn]),
            iam.statement(
                ["iam:PassRole"], [node_role_arn], {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
            ),
            iam.statement(profile_changes, [profiles]),
            iam.statement(["eks:DescribeCluster"], [f"arn:aws:eks:{region}:{account}:cluster/{cluster}"]),
            iam.statement(["kms:GenerateDataKeyWithoutPlaintext", "kms:Decrypt", "kms:CreateGrant"], [key_arn]),
        ]
    )
