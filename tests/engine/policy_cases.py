"""For each rule, a compliant and a violating resource: (type, compliant, violating)."""

from __future__ import annotations

import copy
import json
from typing import Any

Case = tuple[str, dict[str, Any], dict[str, Any]]
DIGEST = "registry.example.com/app@sha256:" + "0" * 64


def _allow(action: str, resource: str, **extra: Any) -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource, **extra}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _trust(principal: Any, action: str = "sts:AssumeRole", **extra: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Principal": principal, **extra}
    return {"assumeRolePolicy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})}


_CONTAINER: dict[str, Any] = {
    "name": "app",
    "image": DIGEST,
    "ports": [{"containerPort": 80}],
    "readinessProbe": {"tcpSocket": {"port": 80}},
    "livenessProbe": {"tcpSocket": {"port": 80}},
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    "securityContext": {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
}
_SPREAD = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]


def _deployment(container: dict[str, Any] | None = None, pod: dict[str, Any] | None = None, **spec: Any) -> Any:
    inner = {**copy.deepcopy(_CONTAINER), **(container or {})}
    pod_spec = {"automountServiceAccountToken": False, "topologySpreadConstraints": _SPREAD, **(pod or {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [inner], **pod_spec}},
            **spec,
        },
    }


def _gateway_route(backend: str, asked_by: str, plugins: str = "gateway-correlation-id") -> Any:
    annotations = {"cogniforge.dev/keys-asked-by": asked_by, "konghq.com/plugins": plugins}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"annotations": annotations},
        "spec": {"rules": [{"backendRefs": [{"name": backend, "port": 8080}]}]},
    }


def _workload(**broken: Any) -> Case:
    return ("kubernetes:apps/v1:Deployment", _deployment(), _deployment(**broken))


def _security(**changed: Any) -> dict[str, Any]:
    return {"securityContext": {**_CONTAINER["securityContext"], **changed}}


def _limits(**limits: str) -> dict[str, Any]:
    return {"resources": {**_CONTAINER["resources"], "limits": {"memory": "1Gi", **limits}}}


_VPC = {"subnetIds": ["subnet-1"]}
_CLUSTER: dict[str, Any] = {
    "roleArn": "arn:aws:iam::000000000000:role/x",
    "version": "1.34",
    "vpcConfig": {**_VPC, "endpointPublicAccess": False},
    "encryptionConfig": {"provider": {"keyArn": "arn:aws:kms:us-east-1:000000000000:key/x"}, "resources": ["secrets"]},
    "enabledClusterLogTypes": ["api", "audit", "authenticator"],
    "accessConfig": {"authenticationMode": "API"},
    "deletionProtection": True,
}


def _cluster(**broken: Any) -> Case:
    return ("aws:eks/cluster:Cluster", _CLUSTER, {**_CLUSTER, **broken})


_TEMPLATE: dict[str, Any] = {
    "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
    "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"encrypted": "true"}}],
}


def _template(**broken: Any) -> Case:
    return ("aws:ec2/launchTemplate:LaunchTemplate", _TEMPLATE, {**_TEMPLATE, **broken})


_LOGS = {"kmsKeyId": "arn:aws:kms:us-east-1:000000000000:key/x", "retentionInDays": 30}
_RELEASE = {
    "chart": "keda",
    "version": "1.0.0",
    "repositoryOpts": {"repo": "https://kedacore.github.io/charts"},
    "atomic": True,
}
_DATABASE = {"instanceClass": "db.t4g.micro", "storageEncrypted": True, "publiclyAccessible": False}
_RULES = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
_ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role"
_BLOCK = dict.fromkeys(("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True)
_RELEASE_TYPE = "kubernetes:helm.sh/v3:Release"
_GROUP: dict[str, Any] = {
    "clusterName": "c",
    "nodeRoleArn": "arn:aws:iam::000000000000:role/x",
    "subnetIds": ["subnet-1"],
    "scalingConfig": {"minSize": 0, "maxSize": 1, "desiredSize": 0},
    "instanceTypes": ["g6.xlarge"],
    "taints": [{"key": "nvidia.com/gpu", "effect": "NO_SCHEDULE"}],
}


def _layouts(**devices: int) -> dict[str, Any]:
    text = json.dumps({"version": "v1", "mig-configs": {"x": [{"devices": "all", "mig-devices": devices}]}})
    return {"apiVersion": "v1", "kind": "ConfigMap", "data": {"config.yaml": text}}


_SERVICE = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}}
_NAMESPACE = {"apiVersion": "v1", "kind": "Namespace"}
_STATEFUL = {**_deployment(), "kind": "StatefulSet"}
_STATEFUL["spec"] = {**_STATEFUL["spec"], "serviceName": "x"}
_CLAIM = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"accessModes": ["ReadWriteOnce"]}}
_KAFKA: dict[str, Any] = {
    "clusterName": "k",
    "kafkaVersion": "3.9.0",
    "numberOfBrokerNodes": 3,
    "brokerNodeGroupInfo": {"clientSubnets": ["s"], "instanceType": "kafka.m7g.large", "securityGroups": ["sg"]},
}

CASES: dict[str, Case] = {
    "aws-volume-encrypted": (
        "aws:ebs/volume:Volume",
        {"availabilityZone": "us-east-1a", "encrypted": True},
        {"availabilityZone": "us-east-1a"},
    ),
    "aws-template-disks-encrypted": _template(blockDeviceMappings=[{"deviceName": "/dev/xvda", "ebs": {}}]),
    "aws-database-encrypted": ("aws:rds/instance:Instance", _DATABASE, {**_DATABASE, "storageEncrypted": False}),
    "aws-queue-encrypted": ("aws:sqs/queue:Queue", {"sqsManagedSseEnabled": True}, {"sqsManagedSseEnabled": False}),
    "aws-topic-encrypted": ("aws:sns/topic:Topic", {"kmsMasterKeyId": "alias/x"}, {}),
    "aws-log-group-encrypted": ("aws:cloudwatch/logGroup:LogGroup", _LOGS, {"retentionInDays": 30}),
    "aws-key-rotated": ("aws:kms/key:Key", {"enableKeyRotation": True}, {"enableKeyRotation": False}),
    "aws-cluster-secrets-encrypted": _cluster(encryptionConfig=None),
    "aws-kafka-encrypted": (
        "aws:msk/cluster:Cluster",
        {**_KAFKA, "encryptionInfo": {"encryptionInTransit": {"clientBroker": "TLS"}}},
        {**_KAFKA, "encryptionInfo": {"encryptionInTransit": {"clientBroker": "TLS_PLAINTEXT"}}},
    ),
    "aws-cache-encrypted": (
        "aws:elasticache/replicationGroup:ReplicationGroup",
        {"description": "x", "atRestEncryptionEnabled": True, "transitEncryptionEnabled": True},
        {"description": "x", "atRestEncryptionEnabled": True},
    ),
    "aws-file-system-encrypted": ("aws:efs/fileSystem:FileSystem", {"encrypted": True}, {}),
    "aws-cluster-api-private": _cluster(vpcConfig={**_VPC, "endpointPublicAccess": True}),
    "aws-no-open-ingress": (
        "aws:ec2/securityGroup:SecurityGroup",
        {"ingress": [{"protocol": "tcp", "fromPort": 443, "toPort": 443, "cidrBlocks": ["0.0.0.0/0"]}]},
        {"ingress": [{"protocol": "tcp", "fromPort": 22, "toPort": 22, "cidrBlocks": ["0.0.0.0/0"]}]},
    ),
    "aws-database-private": ("aws:rds/instance:Instance", _DATABASE, {**_DATABASE, "publiclyAccessible": True}),
    "aws-bucket-not-public": (
        "aws:s3/bucketAcl:BucketAcl",
        {"bucket": "b", "acl": "private"},
        {"bucket": "b", "acl": "public-read"},
    ),
    "aws-bucket-access-blocked": (
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        {"bucket": "b", **_BLOCK},
        {"bucket": "b", **_BLOCK, "blockPublicPolicy": False},
    ),
    "aws-subnet-no-public-addresses": (
        "aws:ec2/subnet:Subnet",
        {"vpcId": "v", "mapPublicIpOnLaunch": False},
        {"vpcId": "v", "mapPublicIpOnLaunch": True},
    ),
    "aws-metadata-tokens": _template(metadataOptions={"httpTokens": "optional", "httpPutResponseHopLimit": 1}),
    "aws-metadata-hop-limit": _template(metadataOptions={"httpTokens": "required", "httpPutResponseHopLimit": 2}),
    "aws-log-retention": ("aws:cloudwatch/logGroup:LogGroup", _LOGS, {"kmsKeyId": _LOGS["kmsKeyId"]}),
    "aws-cluster-logs": _cluster(enabledClusterLogTypes=["api"]),
    "aws-cluster-access-entries": _cluster(accessConfig={"authenticationMode": "CONFIG_MAP"}),
    "aws-cluster-version": _cluster(version="1.27"),
    "aws-data-protected": ("aws:rds/instance:Instance", _DATABASE, _DATABASE),
    "aws-cluster-deletion-protected": _cluster(deletionProtection=False),
    "iam-no-wildcard-actions": (
        "aws:iam/policy:Policy",
        {"policy": _allow("s3:GetObject", "arn:aws:s3:::b/*")},
        {"policy": _allow("s3:*", "arn:aws:s3:::b/*")},
    ),
    "iam-no-wildcard-resources": (
        "aws:iam/policy:Policy",
        {"policy": _allow("ec2:DescribeInstances", "*")},
        {"policy": _allow("ec2:TerminateInstances", "*")},
    ),
    "iam-trust-named": ("aws:iam/role:Role", _trust({"Service": "ec2.amazonaws.com"}), _trust({"AWS": "*"})),
    "iam-federation-scoped": (
        "aws:iam/role:Role",
        _trust({"Federated": "x"}, "sts:AssumeRoleWithWebIdentity", Condition={"StringEquals": {"i:sub": "s"}}),
        _trust({"Federated": "x"}, "sts:AssumeRoleWithWebIdentity"),
    ),
    "iam-no-administrators": (
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        {"role": "r", "policyArn": "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"},
        {"role": "r", "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
    ),
    "iam-no-access-keys": ("aws:iam/accessKey:AccessKey", {}, {"user": "u"}),
    "rbac-no-wildcards": (
        _ROLE,
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": [_RULES]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": [{**_RULES, "verbs": ["*"]}]},
    ),
    "rbac-no-cluster-admin": (
        "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        },
    ),
    "no-plain-secrets": _workload(container={"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]}),
    "no-secrets-in-environment": _workload(
        container={"env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
    ),
    "k8s-image-by-digest": _workload(container={"image": "app:latest"}),
    "k8s-memory-limit": _workload(container={"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}),
    "k8s-requests": _workload(container={"resources": {"limits": {"memory": "1Gi"}}}),
    "k8s-readiness-probe": _workload(container={"readinessProbe": None}),
    "k8s-liveness-probe": _workload(container={"livenessProbe": None}),
    "k8s-non-root": _workload(container=_security(runAsNonRoot=False)),
    "k8s-no-escalation": _workload(container=_security(allowPrivilegeEscalation=True)),
    "k8s-read-only-root": _workload(container=_security(readOnlyRootFilesystem=False)),
    "k8s-not-privileged": _workload(container=_security(privileged=True)),
    "k8s-capabilities-dropped": _workload(container=_security(capabilities={"add": ["NET_ADMIN"]})),
    "k8s-no-host-namespaces": _workload(pod={"hostNetwork": True}),
    "k8s-no-host-path": _workload(pod={"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
    "k8s-replicas": _workload(replicas=1),
    "k8s-spread": _workload(pod={"topologySpreadConstraints": None}),
    "k8s-no-default-token": _workload(pod={"automountServiceAccountToken": True}),
    "gateway-route-asks-for-a-key": (
        "kubernetes:gateway.networking.k8s.io/v1:HTTPRoute",
        _gateway_route("router", "service"),
        _gateway_route("claude", "service", "gateway-ai-proxy"),
    ),
    "gateway-asks-nobody-outside": (
        "kubernetes:configuration.konghq.com/v1:KongPlugin",
        {"apiVersion": "configuration.konghq.com/v1", "kind": "KongPlugin", "plugin": "key-auth"},
        {"apiVersion": "configuration.konghq.com/v1", "kind": "KongPlugin", "plugin": "ai-proxy"},
    ),
    "k8s-no-node-port": (
        "kubernetes:core/v1:Service",
        _SERVICE,
        {**_SERVICE, "spec": {"type": "NodePort", "ports": [{"port": 80}]}},
    ),
    "k8s-pod-security": (
        "kubernetes:core/v1:Namespace",
        {**_NAMESPACE, "metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
        _NAMESPACE,
    ),
    "k8s-claims-kept": (
        "kubernetes:apps/v1:StatefulSet",
        _STATEFUL,
        {**_STATEFUL, "spec": {**_STATEFUL["spec"], "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}},
    ),
    "k8s-claims-protected": ("kubernetes:core/v1:PersistentVolumeClaim", _CLAIM, _CLAIM),
    "chart-pinned": (_RELEASE_TYPE, _RELEASE, {k: v for k, v in _RELEASE.items() if k != "version"}),
    "chart-from-known-repository": (
        _RELEASE_TYPE,
        _RELEASE,
        {**_RELEASE, "repositoryOpts": {"repo": "https://charts.example.com"}},
    ),
    "chart-atomic": (_RELEASE_TYPE, _RELEASE, {**_RELEASE, "atomic": False}),
    "gpu-type-allowed": ("aws:eks/nodeGroup:NodeGroup", _GROUP, {**_GROUP, "instanceTypes": ["p5en.48xlarge"]}),
    "gpu-nodes-tainted": ("aws:eks/nodeGroup:NodeGroup", _GROUP, {**_GROUP, "taints": []}),
    "mig-layouts-fit": (
        "kubernetes:core/v1:ConfigMap",
        _layouts(**{"1g.10gb": 4, "3g.40gb": 1}),
        _layouts(**{"1g.10gb": 5, "3g.40gb": 1, "2g.20gb": 1}),
    ),
    "mig-slices-known": _workload(container=_limits(**{"nvidia.com/mig-9g.90gb": "1"})),
    "gpu-limits-equal-requests": _workload(
        container={
            "resources": {
                "requests": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "2"},
                "limits": {"memory": "1Gi", "nvidia.com/gpu": "1"},
            }
        }
    ),
    "mig-operator-configured": (
        _RELEASE_TYPE,
        {**_RELEASE, "chart": "gpu-operator", "values": {"mig": {"strategy": "mixed"}}},
        {**_RELEASE, "chart": "gpu-operator", "values": {"mig": {"strategy": "all"}}},
    ),
}
PROTECTED = {"aws-data-protected", "k8s-claims-protected"}
"""Rules whose compliant resource differs in the option `protect` only."""
ENVIRONMENT = {"gpu-type-allowed": "staging-policy"}
"""Stacks of rules that do not apply in prod."""
NO_KEEPING = {"iam-no-access-keys"}
"""Rules that no resource of their type satisfies."""
