"""An EKS cluster: control plane, access, pinned add-ons, on-demand and spot nodes."""

from __future__ import annotations

import json
from typing import NamedTuple, cast

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components import catalogue
from components.base import PlatformComponent
from components.cluster import iam
from components.cluster.eks_inputs import EksClusterArgs, EksClusterInputs
from components.cluster.iam import WorkloadRole
from components.cluster.network import nearest_retention
from components.config.eks import Autoscaler, WorkloadIdentity
from components.inputs import checked

_LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
_ACCESS = "arn:aws:eks::aws:cluster-access-policy"
_STORAGE_CLASS = "gp3"
_ADDONS = ("vpc-cni", "kube-proxy", "coredns", "eks-pod-identity-agent", "aws-ebs-csi-driver", "metrics-server")
"""EKS add-ons. Their versions are in versions.lock.yaml."""


class EksClusterResources(NamedTuple):
    """Resources of an EKS cluster."""

    cluster: aws.eks.Cluster
    node_role: aws.iam.Role
    node_groups: tuple[aws.eks.NodeGroup, ...]
    provider: k8s.Provider
    """Talks to the cluster."""
    storage_class: k8s.storage.v1.StorageClass


class EksCluster(PlatformComponent):
    """An EKS cluster with a private API, encrypted secrets, access entries, and its first nodes."""

    provider: k8s.Provider
    """Kubernetes provider for the cluster. It uses the caller's AWS credentials."""
    cluster_name: pulumi.Output[str]
    """Name of the cluster, known once it exists."""
    endpoint: pulumi.Output[str]
    """URL of the Kubernetes API."""
    kubeconfig: pulumi.Output[str]
    """A kubeconfig without credentials: it gets a token from the AWS CLI."""
    security_group_id: pulumi.Output[str]
    """Security group of control plane and nodes."""
    node_role: aws.iam.Role
    node_role_name: pulumi.Output[str]
    """Name of the nodes' IAM role."""
    node_role_arn: pulumi.Output[str]
    """ARN of the nodes' IAM role."""
    issuer: tuple[pulumi.Output[str], pulumi.Output[str]] | None
    """(ARN, URL) of the cluster's OIDC provider; only with IRSA."""
    issuer_arn: pulumi.Output[str] | None
    """ARN of the cluster's OIDC provider in IAM; only with IRSA."""
    issuer_url: pulumi.Output[str] | None
    """URL of the cluster's OIDC provider; only with IRSA."""

    def __init__(self, name: str, args: EksClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self._eks = eks = checked(EksClusterInputs, self, name, args)
        shown = {field: getattr(eks, field) for field in ("cluster_name", "subnet_ids", "key_arn", "protect")}
        super().__init__("cluster", name, shown, opts)
        cluster = self._control_plane()
        self.cluster_name, self.endpoint = cluster.name, cluster.endpoint
        self.security_group_id = cast("pulumi.Output[str]", cluster.vpc_config.cluster_security_group_id)
        self.issuer = self._issuer(cluster) if eks.identity is WorkloadIdentity.IRSA else None
        self.issuer_arn, self.issuer_url = self.issuer or (None, None)
        access = self._access()
        self.node_role, attached = iam.service_role(
            f"{name}-node",
            "ec2.amazonaws.com",
            ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonSSMManagedInstanceCore"),
            self.child(),
            self,
        )
        self.node_role_name, self.node_role_arn = self.node_role.name, self.node_role.arn
        cni = self._addon("vpc-cni", {"enableNetworkPolicy": "true", "env": {"ENABLE_PREFIX_DELEGATION": "true"}}, [])
        nodes = self._node_groups([*attached, cni])
        self._remaining_addons([*nodes])
        self.kubeconfig = pulumi.Output.all(cluster.name, cluster.endpoint, cluster.certificate_authority.data).apply(
            lambda known: kubeconfig(known[0], known[1], known[2] or "", eks.region)
        )
        self.provider = k8s.Provider(
            name,
            kubeconfig=self.kubeconfig,
            enable_server_side_apply=True,
            opts=self.child(depends_on=[*access, *nodes]),
        )
        self.resources = EksClusterResources(
            cluster, self.node_role, tuple(nodes), self.provider, self._storage_class()
        )
        self.finish(
            {"kind": "", "namespace": "", "name": self.cluster_name, "probe": "the control plane is ACTIVE"},
            cluster_name=self.cluster_name,
            endpoint=self.endpoint,
            kubeconfig=self.kubeconfig,
        )

    def _control_plane(self) -> aws.eks.Cluster:
        eks = self._eks
        role, attached = iam.service_role(
            f"{self.name}-control-plane", "eks.amazonaws.com", ("AmazonEKSClusterPolicy",), self.child(), self
        )
        logs = aws.cloudwatch.LogGroup(
            f"{self.name}-control-plane",
            name=f"/aws/eks/{eks.cluster_name}/cluster",
            retention_in_days=nearest_retention(eks.log_days),
            kms_key_id=eks.key_arn,
            opts=self.child(),
        )
        return aws.eks.Cluster(
            self.name,
            name=eks.cluster_name,
            version=eks.version,
            role_arn=role.arn,
            bootstrap_self_managed_addons=False,
            deletion_protection=eks.protect,
            enabled_cluster_log_types=list(_LOG_TYPES),
            vpc_config=aws.eks.ClusterVpcConfigArgs(
                subnet_ids=eks.subnet_ids,
                endpoint_private_access=True,
                endpoint_public_access=bool(eks.public_api_cidrs),
                public_access_cidrs=list(eks.public_api_cidrs) or None,
            ),
            kubernetes_network_config={"service_ipv4_cidr": eks.service_cidr, "ip_family": "ipv4"},
            encryption_config={"provider": {"key_arn": eks.key_arn}, "resources": ["secrets"]},
            access_config={"authentication_mode": "API", "bootstrap_cluster_creator_admin_permissions": False},
            upgrade_policy={"support_type": "STANDARD"},
            zonal_shift_config={"enabled": True},
            opts=self.child(depends_on=[*attached, logs], protect=eks.protect),
        )

    def _issuer(self, cluster: aws.eks.Cluster) -> tuple[pulumi.Output[str], pulumi.Output[str]]:
        url = cluster.identities.apply(lambda found: (found[0].oidcs[0].issuer if found[0].oidcs else None) or "")
        provider = aws.iam.OpenIdConnectProvider(
            self.name, url=url, client_id_lists=["sts.amazonaws.com"], opts=self.child()
        )
        return provider.arn, url

    def _access(self) -> list[pulumi.Resource]:
        made: list[pulumi.Resource] = []
        granted = [(arn, "AmazonEKSClusterAdminPolicy") for arn in self._eks.admins]
        granted += [(arn, "AmazonEKSViewPolicy") for arn in self._eks.viewers]
        for arn, policy in granted:
            label = f"{self.name}-{arn.rpartition('/')[2]}"
            entry = aws.eks.AccessEntry(
                label, cluster_name=self.cluster_name, principal_arn=arn, type="STANDARD", opts=self.child()
            )
            made.append(
                aws.eks.AccessPolicyAssociation(
                    label,
                    cluster_name=self.cluster_name,
                    principal_arn=arn,
                    policy_arn=f"{_ACCESS}/{policy}",
                    access_scope={"type": "cluster"},
                    opts=self.child(depends_on=[entry]),
                )
            )
        return made

    def _addon(
        self,
        addon: str,
        settings: dict[str, object],
        depends_on: list[pulumi.Resource],
        role: WorkloadRole | None = None,
    ) -> aws.eks.Addon:
        irsa = role is not None and role.identity is WorkloadIdentity.IRSA
        return aws.eks.Addon(
            f"{self.name}-{addon}",
            cluster_name=self.cluster_name,
            addon_name=addon,
            addon_version=catalogue.addon(addon, self._eks.version),
            configuration_values=json.dumps(settings, sort_keys=True) if settings else None,
            service_account_role_arn=role.arn if role and irsa else None,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="PRESERVE",
            opts=self.child(depends_on=depends_on),
        )

    def _remaining_addons(self, nodes: list[pulumi.Resource]) -> None:
        storage = WorkloadRole(
            f"{self.name}-ebs-csi",
            self.cluster_name,
            self.issuer,
            ("kube-system", "ebs-csi-controller-sa"),
            self.child(),
            policy=pulumi.Output.from_input(self._eks.key_arn).apply(_volume_key_policy),
            managed="service-role/AmazonEBSCSIDriverPolicy",
        )
        for addon in _ADDONS[1:]:
            if addon == "eks-pod-identity-agent" and self.issuer is not None:
                continue
            csi = addon == "aws-ebs-csi-driver"
            settings: dict[str, object] = {"replicaCount": 2} if addon == "coredns" else {}
            self._addon(addon, settings, nodes, storage if csi else None)

    def _node_groups(self, depends_on: list[pulumi.Resource]) -> list[aws.eks.NodeGroup]:
        """Managed node groups. With Karpenter, only the first on-demand pool, where Karpenter itself runs."""
        pools = self._eks.node_pools
        if self._eks.autoscaler is Autoscaler.KARPENTER:
            pools = tuple(p for p in pools if p.capacity == "on-demand")[:1]
        made: list[aws.eks.NodeGroup] = []
        for pool in pools:
            label = f"{self.name}-{pool.name}"
            template = launch_template(label, pool.disk_gib, self._eks.key_arn, self.child())
            made.append(
                aws.eks.NodeGroup(
                    label,
                    cluster_name=self.cluster_name,
                    node_role_arn=self.node_role.arn,
                    subnet_ids=self._eks.subnet_ids,
                    version=self._eks.version,
                    ami_type="AL2023_x86_64_STANDARD",
                    capacity_type=pool.capacity.upper().replace("-", "_"),
                    instance_types=list(pool.instance_types),
                    scaling_config={
                        "min_size": pool.min_nodes,
                        "max_size": pool.max_nodes,
                        "desired_size": max(pool.min_nodes, 1),
                    },
                    update_config={"max_unavailable_percentage": 33},
                    node_repair_config={"enabled": True},
                    launch_template={"id": template.id, "version": template.latest_version.apply(str)},
                    labels={"cogniforge.dev/pool": pool.name},
                    # The autoscaler changes the size of an existing group, so the program ignores it.
                    opts=self.child(depends_on=depends_on, ignore_changes=["scalingConfig.desiredSize"]),
                )
            )
        return made

    def _storage_class(self) -> k8s.storage.v1.StorageClass:
        return k8s.storage.v1.StorageClass(
            f"{self.name}-storage",
            metadata={
                "name": _STORAGE_CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            provisioner="ebs.csi.aws.com",
            parameters={"type": "gp3", "encrypted": "true", "kmsKeyId": self._eks.key_arn},
            volume_binding_mode="WaitForFirstConsumer",
            allow_volume_expansion=True,
            reclaim_policy="Delete",
            opts=self.child(provider=self.provider),
        )


def launch_template(
    name: str, disk_gib: int, key_arn: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> aws.ec2.LaunchTemplate:
    """A launch template for nodes: encrypted disk, and no access to instance metadata from pods."""
    return aws.ec2.LaunchTemplate(
        name,
        metadata_options={"http_tokens": "required", "http_put_response_hop_limit": 1, "http_endpoint": "enabled"},
        block_device_mappings=[
            {
                "device_name": "/dev/xvda",
                "ebs": {
                    "volume_size": disk_gib,
                    "volume_type": "gp3",
                    "encrypted": "true",
                    "kms_key_id": key_arn,
                    "delete_on_termination": "true",
                },
            }
        ],
        opts=opts,
    )


def kubeconfig(name: str, endpoint: str, authority: str, region: str) -> str:
    """A kubeconfig without credentials: it gets a token from the AWS CLI."""
    exec_ = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "aws",
        "args": ["eks", "get-token", "--cluster-name", name, "--region", region, "--output", "json"],
        "interactiveMode": "Never",
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": endpoint, "certificate-authority-data": authority}}],
            "users": [{"name": name, "user": {"exec": exec_}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        }
    )


def _volume_key_policy(key_arn: str) -> str:
    use = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKeyWithoutPlaintext"]
    grant = iam.statement(["kms:CreateGrant"], [key_arn], {"Bool": {"kms:GrantIsForAWSResource": "true"}})
    return iam.document([iam.statement([*use, "kms:DescribeKey"], [key_arn]), grant])
