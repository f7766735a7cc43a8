"""Rules for AWS resources: encryption, exposure, operation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from policies.crossguard.rule import UNKNOWN, Area, Resource, Rule, StackRule, known

_WORLD = ("0.0.0.0/0", "::/0")
_SUPPORTED_KUBERNETES = ("1.32", "1.33", "1.34")


def _must(name: str, wanted: Any, text: str) -> Any:
    """A check that a property has the value `wanted`; None requires any value."""

    def check(resource: Resource) -> Iterator[str]:
        value: Any = resource.properties
        for part in name.split("."):
            value = known(value, part) if value is not None and value is not UNKNOWN else value
        if value is UNKNOWN:
            return
        if (wanted is None and not value) or (wanted is not None and value != wanted):
            yield text

    return check


def _template_disks(resource: Resource) -> Iterator[str]:
    for mapping in resource.properties.get("blockDeviceMappings") or []:
        if str((mapping.get("ebs") or {}).get("encrypted")).lower() != "true":
            yield f"disk {mapping.get('deviceName')} is not encrypted"


def _queue(resource: Resource) -> Iterator[str]:
    if not known(resource.properties, "kmsMasterKeyId") and not resource.properties.get("sqsManagedSseEnabled"):
        yield "messages are stored unencrypted"


def _secrets_encrypted(resource: Resource) -> Iterator[str]:
    encryption = resource.properties.get("encryptionConfig")
    if not encryption or "secrets" not in (encryption.get("resources") or []):
        yield "Kubernetes secrets are not encrypted with a KMS key of the account"


def _kafka(resource: Resource) -> Iterator[str]:
    transit = ((resource.properties.get("encryptionInfo") or {}).get("encryptionInTransit")) or {}
    if transit.get("clientBroker") != "TLS":
        yield "clients may connect to the brokers without TLS"


def _cache(resource: Resource) -> Iterator[str]:
    for name in ("atRestEncryptionEnabled", "transitEncryptionEnabled"):
        if not resource.properties.get(name):
            yield f"{name} is off"


def _api_private(resource: Resource) -> Iterator[str]:
    vpc = resource.properties.get("vpcConfig") or {}
    if vpc.get("endpointPublicAccess") is not False:
        if resource.environment == "prod":
            yield "the API has a public address in prod"
        elif not vpc.get("publicAccessCidrs") or set(vpc.get("publicAccessCidrs") or []) & set(_WORLD):
            yield "the API can be reached from the whole internet"


def _ingress(resource: Resource) -> Iterator[str]:
    properties = resource.properties
    if resource.type.endswith(":SecurityGroup"):
        rules = list(properties.get("ingress") or [])
    elif resource.type.endswith(":SecurityGroupIngressRule"):
        rules = [
            {"cidrBlocks": [properties.get("cidrIpv4")], **dict.fromkeys(("fromPort",), properties.get("fromPort"))}
        ]
    else:
        rules = [properties] if properties.get("type") == "ingress" else []
    for rule in rules:
        blocks = [*(rule.get("cidrBlocks") or []), *(rule.get("ipv6CidrBlocks") or [])]
        if set(blocks) & set(_WORLD) and rule.get("fromPort") != 443:
            yield f"port {rule.get('fromPort')} is open to the whole internet"


def _public_access_block(resource: Resource) -> Iterator[str]:
    for name in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"):
        if resource.properties.get(name) is not True:
            yield f"{name} is off"


def _bucket_acl(resource: Resource) -> Iterator[str]:
    if str(resource.properties.get("acl") or "").startswith(("public-", "authenticated-")):
        yield f"acl is {resource.properties.get('acl')}"


def _cluster_logs(resource: Resource) -> Iterator[str]:
    missing = {"api", "audit", "authenticator"} - set(resource.properties.get("enabledClusterLogTypes") or [])
    if missing:
        yield f"logs are off: {', '.join(sorted(missing))}"


def _cluster_version(resource: Resource) -> Iterator[str]:
    version = resource.properties.get("version")
    if version not in _SUPPORTED_KUBERNETES:
        yield f"Kubernetes {version} is not in standard support"


def _default_tags(resource: Resource) -> Iterator[str]:
    tags = resource.properties.get("defaultTags")
    if isinstance(tags, str):  # provider configuration is sent as JSON
        tags = json.loads(tags)
    present = set(((tags or {}).get("tags") or {}).keys())
    missing = {"cogniforge.dev/environment", "cogniforge.dev/owner"} - present
    if missing:
        yield f"default tags lack {', '.join(sorted(missing))}"


def _protected(resource: Resource) -> Iterator[str]:
    if not resource.protect:
        yield "the resource holds data, and a mistake in the program could delete it"


def _flow_logs(resources: Sequence[Resource]) -> Iterator[tuple[str, str]]:
    networks = [r for r in resources if r.type == "aws:ec2/vpc:Vpc"]
    logs = [r for r in resources if r.type == "aws:ec2/flowLog:FlowLog"]
    for network in networks[len(logs) :]:
        yield network.urn, "the network has no flow log"


_FAMILY = {
    "aws-volume-encrypted": (
        ("aws:ebs/volume:Volume",), "Volumes are encrypted.", "set encrypted to true",
        _must("encrypted", True, "the volume is not encrypted"),
    ),
    "aws-template-disks-encrypted": (
        ("aws:ec2/launchTemplate:LaunchTemplate",), "Disks of nodes are encrypted.", "set ebs.encrypted to true",
        _template_disks,
    ),
    "aws-database-encrypted": (
        ("aws:rds/instance:Instance", "aws:rds/cluster:Cluster"), "Databases are encrypted.",
        "set storageEncrypted to true and name a key", _must("storageEncrypted", True, "storage is not encrypted"),
    ),
    "aws-queue-encrypted": (
        ("aws:sqs/queue:Queue",), "Queues are encrypted.", "set sqsManagedSseEnabled or kmsMasterKeyId", _queue,
    ),
    "aws-topic-encrypted": (
        ("aws:sns/topic:Topic",), "Topics are encrypted.", "set kmsMasterKeyId",
        _must("kmsMasterKeyId", None, "messages are stored unencrypted"),
    ),
    "aws-log-group-encrypted": (
        ("aws:cloudwatch/logGroup:LogGroup",), "Logs are encrypted with a KMS key of the account.", "set kmsKeyId",
        _must("kmsKeyId", None, "logs are encrypted with an AWS managed key"),
    ),
    "aws-key-rotated": (
        ("aws:kms/key:Key",), "Keys are rotated yearly.", "set enableKeyRotation to true",
        _must("enableKeyRotation", True, "the key is never rotated"),
    ),
    "aws-cluster-secrets-encrypted": (
        ("aws:eks/cluster:Cluster",), "Kubernetes secrets are encrypted with a KMS key of the account.",
        "set encryptionConfig for secrets", _secrets_encrypted,
    ),
    "aws-kafka-encrypted": (
        ("aws:msk/cluster:Cluster",), "Kafka accepts TLS only.", "set encryptionInTransit.clientBroker to TLS", _kafka,
    ),
    "aws-cache-encrypted": (
        ("aws:elasticache/replicationGroup:ReplicationGroup",), "Caches are encrypted at rest and in transit.",
        "enable both", _cache,
    ),
    "aws-file-system-encrypted": (
        ("aws:efs/fileSystem:FileSystem",), "File systems are encrypted.", "set encrypted to true",
        _must("encrypted", True, "the file system is not encrypted"),
    ),
}  # fmt: skip
_EXPOSED = {
    "aws-cluster-api-private": (
        ("aws:eks/cluster:Cluster",), "The Kubernetes API is private, or open to listed networks only.",
        "set endpointPublicAccess to false, or name publicAccessCidrs", _api_private,
    ),
    "aws-no-open-ingress": (
        ("aws:ec2/securityGroup:SecurityGroup", "aws:ec2/securityGroupRule:SecurityGroupRule",
         "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"),
        "Only port 443 may be open to the whole internet.", "list the networks that need access", _ingress,
    ),
    "aws-database-private": (
        ("aws:rds/instance:Instance",), "Databases have no public address.", "set publiclyAccessible to false",
        _must("publiclyAccessible", False, "the database may have a public address"),
    ),
    "aws-bucket-not-public": (
        ("aws:s3/bucketAcl:BucketAcl", "aws:s3/bucket:Bucket"), "Buckets have no public ACL.",
        "remove the ACL and use policies", _bucket_acl,
    ),
    "aws-bucket-access-blocked": (
        ("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",), "Public access to buckets is blocked.",
        "set all four to true", _public_access_block,
    ),
    "aws-subnet-no-public-addresses": (
        ("aws:ec2/subnet:Subnet",), "Subnets assign no public addresses.", "set mapPublicIpOnLaunch to false",
        _must("mapPublicIpOnLaunch", False, "instances get public addresses"),
    ),
    "aws-metadata-tokens": (
        ("aws:ec2/launchTemplate:LaunchTemplate",), "Instance metadata needs a token (IMDSv2).",
        "set metadataOptions.httpTokens to required",
        _must("metadataOptions.httpTokens", "required", "metadata is served without a token"),
    ),
    "aws-metadata-hop-limit": (
        ("aws:ec2/launchTemplate:LaunchTemplate",), "Pods cannot reach the node's credentials.",
        "set metadataOptions.httpPutResponseHopLimit to 1",
        _must("metadataOptions.httpPutResponseHopLimit", 1, "pods can use the node's role"),
    ),
}  # fmt: skip
_OPERATED = {
    "aws-log-retention": (
        ("aws:cloudwatch/logGroup:LogGroup",), "Logs have a retention period.", "set retentionInDays",
        _must("retentionInDays", None, "logs are kept forever"),
    ),
    "aws-cluster-logs": (
        ("aws:eks/cluster:Cluster",), "Control plane logs are enabled.", "enable api, audit and authenticator",
        _cluster_logs,
    ),
    "aws-cluster-access-entries": (
        ("aws:eks/cluster:Cluster",), "Cluster access uses access entries, not a ConfigMap.",
        "set accessConfig.authenticationMode to API",
        _must("accessConfig.authenticationMode", "API", "access depends on the aws-auth ConfigMap"),
    ),
    "aws-cluster-version": (
        ("aws:eks/cluster:Cluster",), "Kubernetes is in standard support.",
        f"use one of {', '.join(_SUPPORTED_KUBERNETES)}", _cluster_version,
    ),
    "aws-provider-tags": (
        ("pulumi:providers:aws",), "All resources have owner tags.",
        "set defaultTags on the provider",
        _default_tags,
    ),
    "aws-account-pinned": (
        ("pulumi:providers:aws",), "Credentials of another account are refused.", "set allowedAccountIds",
        _must("allowedAccountIds", None, "the provider uses the account of any credentials"),
    ),
}  # fmt: skip


def _rules() -> Iterator[Rule]:
    groups = ((Area.ENCRYPTION, _FAMILY), (Area.EXPOSURE, _EXPOSED), (Area.OPERATIONS, _OPERATED))
    for area, family in groups:
        for name, (types, description, fix, check) in family.items():
            yield Rule(name, area, description, fix, types, check)
    protected = ("aws:eks/cluster:Cluster", "aws:rds/*", "aws:msk/cluster:Cluster", "aws:efs/fileSystem:FileSystem")
    yield Rule(
        "aws-data-protected",
        Area.DATA,
        "Resources that hold data are protected from deletion.",
        "set the protect option",
        protected,
        _protected,
        strict_from="staging",
    )
    yield Rule(
        "aws-cluster-deletion-protected",
        Area.DATA,
        "AWS itself refuses to delete the cluster.",
        "set deletionProtection to true",
        ("aws:eks/cluster:Cluster",),
        _must("deletionProtection", True, "deletion protection is off"),
        strict_from="staging",
    )


RULES = tuple(_rules())
STACK_RULES = (
    StackRule(
        "aws-flow-logs",
        Area.OPERATIONS,
        "Every network has a flow log.",
        "add an aws.ec2.FlowLog for it",
        _flow_logs,
    ),
)
