"""AWS resource types that the simulated account supports: IDs, ARNs, outputs, and inputs that force replacement."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = "000000000000"
"""Account ID in all simulated ARNs. AWS does not assign it."""
KUBECONFIG_VARIABLE = "COGNIFORGE_SIMULATED_EKS"
"""Environment variable with the path of a kubeconfig, whose API server serves simulated EKS clusters. Without it, their
address does not exist."""
Values = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A resource type."""

    arn: str = ""
    """Template of the ARN, with {region}, {account}, {id} and inputs by name; empty for types without an ARN."""
    prefix: str = ""
    """Prefix of IDs, which 17 hex digits follow; empty if the input `named` is the ID."""
    named: str = ""
    """Input that is the ID. If the program leaves it out, it is generated from the resource's name."""
    joined: tuple[str, ...] = ()
    """Inputs that form the ID, joined by colons."""
    operation: tuple[str, str] = ("", "")
    """(service, operation) of botocore that creates the resource."""
    replaces: tuple[str, ...] = ()
    """Inputs whose change forces replacement. Source: the ForceNew marks of the AWS provider's documentation."""
    outputs: Callable[[str, Values, str], Values] = field(default=lambda *_: {})
    """Function from (ID, inputs, region) to outputs, besides ID, ARN and the inputs."""
    quota: str = ""
    """Quota that counts this type."""


def _hex(length: int) -> str:
    return secrets.token_hex(length)[:length]


def _cluster(identifier: str, inputs: Values, region: str) -> Values:
    token = _hex(32).upper()
    endpoint = f"https://{token}.gr7.{region}.eks.amazonaws.com"
    authority = base64.b64encode(b"simulated").decode()
    kubeconfig = os.environ.get(KUBECONFIG_VARIABLE)
    if kubeconfig:
        cluster = yaml.safe_load(Path(kubeconfig).read_text())["clusters"][0]["cluster"]
        endpoint, authority = cluster["server"], cluster["certificate-authority-data"]
    return {
        "endpoint": endpoint,
        "status": "ACTIVE",
        "platformVersion": "eks.9",
        "certificateAuthority": {"data": authority},
        "certificateAuthorities": [{"data": authority}],
        "identities": [{"oidcs": [{"issuer": f"https://oidc.eks.{region}.amazonaws.com/id/{token}"}]}],
        "vpcConfig": {
            **inputs.get("vpcConfig", {}),
            "clusterSecurityGroupId": f"sg-{_hex(17)}",
            "vpcId": f"vpc-{_hex(17)}",
        },
    }


def _role(identifier: str, inputs: Values, region: str) -> Values:
    return {"uniqueId": f"AROA{_hex(17).upper()}", "path": "/"}


def _ec2(kind: str, prefix: str, operation: str, *replaces: str, quota: str = "", **extra: Any) -> Kind:
    return Kind(
        f"arn:aws:ec2:{{region}}:{{account}}:{kind}/{{id}}",
        prefix,
        operation=("ec2", operation),
        replaces=replaces,
        quota=quota,
        **extra,
    )


KINDS: dict[str, Kind] = {
    "ec2/vpc:Vpc": _ec2("vpc", "vpc-", "CreateVpc", "cidrBlock", quota="vpcs"),
    "ec2/subnet:Subnet": _ec2("subnet", "subnet-", "CreateSubnet", "vpcId", "cidrBlock", "availabilityZone"),
    "ec2/internetGateway:InternetGateway": _ec2("internet-gateway", "igw-", "CreateInternetGateway"),
    "ec2/natGateway:NatGateway": _ec2("natgateway", "nat-", "CreateNatGateway", "allocationId", "subnetId"),
    "ec2/eip:Eip": _ec2("elastic-ip", "eipalloc-", "AllocateAddress", "domain", quota="eips"),
    "ec2/routeTable:RouteTable": _ec2("route-table", "rtb-", "CreateRouteTable", "vpcId"),
    "ec2/route:Route": Kind(prefix="r-", operation=("ec2", "CreateRoute"), replaces=("routeTableId",)),
    "ec2/routeTableAssociation:RouteTableAssociation": Kind(
        prefix="rtbassoc-", operation=("ec2", "AssociateRouteTable"), replaces=("subnetId",)
    ),
    "ec2/vpcEndpoint:VpcEndpoint": _ec2("vpc-endpoint", "vpce-", "CreateVpcEndpoint", "vpcId", "serviceName"),
    "ec2/defaultSecurityGroup:DefaultSecurityGroup": _ec2("security-group", "sg-", "", "vpcId"),
    "ec2/flowLog:FlowLog": _ec2("vpc-flow-log", "fl-", "CreateFlowLogs", "vpcId", "trafficType", "logDestination"),
    "ec2/launchTemplate:LaunchTemplate": _ec2(
        "launch-template", "lt-", "CreateLaunchTemplate", "name", outputs=lambda *_: {"latestVersion": 1}
    ),
    "kms/key:Key": Kind(
        "arn:aws:kms:{region}:{account}:key/{id}",
        "mrk-",
        operation=("kms", "CreateKey"),
        replaces=("customerMasterKeySpec",),
        outputs=lambda identifier, *_: {"keyId": identifier},
    ),
    "kms/alias:Alias": Kind(
        "arn:aws:kms:{region}:{account}:{id}", named="name", operation=("kms", "CreateAlias"), replaces=("name",)
    ),
    "cloudwatch/logGroup:LogGroup": Kind(
        "arn:aws:logs:{region}:{account}:log-group:{id}",
        named="name",
        operation=("logs", "CreateLogGroup"),
        replaces=("name",),
    ),
    "cloudwatch/eventRule:EventRule": Kind(
        "arn:aws:events:{region}:{account}:rule/{id}", named="name", operation=("events", "PutRule"), replaces=("name",)
    ),
    "cloudwatch/eventTarget:EventTarget": Kind(
        joined=("rule",), operation=("events", "PutTargets"), replaces=("rule",)
    ),
    "iam/role:Role": Kind(
        "arn:aws:iam::{account}:role/{id}",
        named="name",
        operation=("iam", "CreateRole"),
        replaces=("name",),
        outputs=_role,
    ),
    "iam/rolePolicy:RolePolicy": Kind(
        joined=("role", "name"), operation=("iam", "PutRolePolicy"), replaces=("role", "name")
    ),
    "iam/rolePolicyAttachment:RolePolicyAttachment": Kind(
        joined=("role", "policyArn"), operation=("iam", "AttachRolePolicy"), replaces=("role", "policyArn")
    ),
    "iam/openIdConnectProvider:OpenIdConnectProvider": Kind(
        "arn:aws:iam::{account}:oidc-provider/{id}",
        prefix="oidc-",
        operation=("iam", "CreateOpenIDConnectProvider"),
        replaces=("url",),
    ),
    "sqs/queue:Queue": Kind(
        "arn:aws:sqs:{region}:{account}:{id}",
        named="name",
        operation=("sqs", "CreateQueue"),
        replaces=("name", "fifoQueue"),
        outputs=lambda identifier, _, region: {"url": f"https://sqs.{region}.amazonaws.com/{ACCOUNT}/{identifier}"},
    ),
    "sqs/queuePolicy:QueuePolicy": Kind(
        joined=("queueUrl",), operation=("sqs", "SetQueueAttributes"), replaces=("queueUrl",)
    ),
    "eks/cluster:Cluster": Kind(
        "arn:aws:eks:{region}:{account}:cluster/{id}",
        named="name",
        operation=("eks", "CreateCluster"),
        replaces=(
            "name",
            "roleArn",
            "encryptionConfig",
            "kubernetesNetworkConfig.serviceIpv4Cidr",
            "vpcConfig.subnetIds",
        ),
        outputs=_cluster,
        quota="clusters",
    ),
    "eks/nodeGroup:NodeGroup": Kind(
        "arn:aws:eks:{region}:{account}:nodegroup/{id}",
        joined=("clusterName", "nodeGroupName"),
        operation=("eks", "CreateNodegroup"),
        replaces=(
            "clusterName",
            "nodeGroupName",
            "subnetIds",
            "instanceTypes",
            "amiType",
            "capacityType",
            "diskSize",
            "nodeRoleArn",
        ),
        outputs=lambda *_: {"status": "ACTIVE"},
    ),
    "eks/addon:Addon": Kind(
        "arn:aws:eks:{region}:{account}:addon/{id}",
        joined=("clusterName", "addonName"),
        operation=("eks", "CreateAddon"),
        replaces=("clusterName", "addonName"),
    ),
    "eks/accessEntry:AccessEntry": Kind(
        joined=("clusterName", "principalArn"),
        operation=("eks", "CreateAccessEntry"),
        replaces=("clusterName", "principalArn", "type"),
    ),
    "eks/accessPolicyAssociation:AccessPolicyAssociation": Kind(
        joined=("clusterName", "principalArn", "policyArn"),
        operation=("eks", "AssociateAccessPolicy"),
        replaces=("clusterName", "principalArn", "policyArn", "accessScope"),
    ),
    "ec2/securityGroup:SecurityGroup": _ec2("security-group", "sg-", "CreateSecurityGroup", "vpcId", "description"),
    "vpc/securityGroupIngressRule:SecurityGroupIngressRule": _ec2("security-group-rule", "sgr-", "", "securityGroupId"),
    "rds/subnetGroup:SubnetGroup": Kind(
        "arn:aws:rds:{region}:{account}:subgrp:{id}",
        named="name",
        operation=("rds", "CreateDBSubnetGroup"),
        replaces=("name",),
    ),
    "rds/parameterGroup:ParameterGroup": Kind(
        "arn:aws:rds:{region}:{account}:pg:{id}",
        named="name",
        operation=("rds", "CreateDBParameterGroup"),
        replaces=("name", "family"),
    ),
    "rds/instance:Instance": Kind(
        "arn:aws:rds:{region}:{account}:db:{id}",
        named="identifier",
        operation=("rds", "CreateDBInstance"),
        replaces=("engine", "username", "storageEncrypted", "kmsKeyId", "dbSubnetGroupName"),
        outputs=lambda identity, _, region: {
            "address": f"{identity}.c{_hex(11)}.{region}.rds.amazonaws.com",
            "status": "available",
        },
    ),
    "msk/configuration:Configuration": Kind(
        "arn:aws:kafka:{region}:{account}:configuration/{id}",
        named="name",
        operation=("kafka", "CreateConfiguration"),
        replaces=("name", "kafkaVersions"),
        outputs=lambda *_: {"latestRevision": 1},
    ),
    "msk/cluster:Cluster": Kind(
        "arn:aws:kafka:{region}:{account}:cluster/{id}",
        named="clusterName",
        operation=("kafka", "CreateCluster"),
        replaces=("clusterName", "brokerNodeGroupInfo.clientSubnets", "encryptionInfo.encryptionAtRestKmsKeyArn"),
        outputs=lambda identity, inputs, region: {
            "bootstrapBrokersSaslScram": ",".join(
                f"b-{n + 1}.{identity}.c2.kafka.{region}.amazonaws.com:9096"
                for n in range(int(inputs.get("numberOfBrokerNodes", 3)))
            )
        },
    ),
    "msk/scramSecretAssociation:ScramSecretAssociation": Kind(joined=("clusterArn",), replaces=("clusterArn",)),
    "secretsmanager/secret:Secret": Kind(
        "arn:aws:secretsmanager:{region}:{account}:secret:{id}",
        named="name",
        operation=("secretsmanager", "CreateSecret"),
        replaces=("name",),
    ),
    "secretsmanager/secretVersion:SecretVersion": Kind(
        joined=("secretId",), operation=("secretsmanager", "PutSecretValue"), replaces=("secretId",)
    ),
    "secretsmanager/secretPolicy:SecretPolicy": Kind(joined=("secretArn",), replaces=("secretArn",)),
    "s3/bucket:Bucket": Kind(
        "arn:aws:s3:::{id}", named="bucket", operation=("s3", "CreateBucket"), replaces=("bucket",)
    ),
    **{
        f"s3/bucket{part}:Bucket{part[0].upper()}{part[1:]}": Kind(joined=("bucket",), replaces=("bucket",))
        for part in (
            "PublicAccessBlock",
            "OwnershipControls",
            "ServerSideEncryptionConfiguration",
            "Versioning",
            "LifecycleConfiguration",
            "Policy",
        )
    },
    "eks/podIdentityAssociation:PodIdentityAssociation": Kind(
        prefix="a-",
        operation=("eks", "CreatePodIdentityAssociation"),
        replaces=("clusterName", "namespace", "serviceAccount"),
    ),
}
"""Resource types by token without "aws:"."""


def identifier(kind: Kind, name: str, inputs: Values) -> str:
    """A new ID in AWS' format."""
    if kind.prefix:
        return f"{kind.prefix}{_hex(17)}"
    if kind.named:
        return str(inputs[kind.named])
    return ":".join(str(inputs[key]) for key in kind.joined)


def outputs(kind: Kind, identity: str, inputs: Values, region: str) -> Values:
    """All outputs of a resource."""
    arn = kind.arn.format(**{"region": region, "account": ACCOUNT, "id": identity}) if kind.arn else None
    return {**inputs, **({"arn": arn} if arn else {}), **kind.outputs(identity, inputs, region)}
