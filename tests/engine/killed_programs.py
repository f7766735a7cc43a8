"""Programs of `test_resume.py`. They import lazily, since they run very often."""

from __future__ import annotations

from typing import Any


def of_all_kinds(namespace: str, unique: str, version: int) -> None:
    """One resource of each kind with its own behaviour; version 2 changes all and replaces some."""

    import pulumi_kubernetes as k8s

    def workload(app: str) -> dict[str, Any]:
        pod = {"containers": [{"name": "c", "image": "none.example.com/none:1"}]}
        labels = {"match_labels": {"app": app}}
        return {"selector": labels, "template": {"metadata": {"labels": {"app": app}}, "spec": pod}}

    meta = {"namespace": namespace, "labels": {"version": str(version)}}
    named = {**meta, "name": f"{unique}-named"}
    core, apps = k8s.core.v1, k8s.apps.v1
    secret = core.Secret("secret", metadata=meta, string_data={"version": str(version)})
    core.ConfigMap("auto", metadata=meta, data={"secret": secret.metadata["name"]})
    core.ConfigMap("fixed", metadata=meta, immutable=True, data={"k": str(version)})
    rule = {"api_groups": [""], "resources": ["pods"], "verbs": ["get"]}
    k8s.rbac.v1.ClusterRole("cluster-role", metadata={"labels": meta["labels"]}, rules=[rule])
    apps.Deployment("deployment", metadata=named, spec={"replicas": 0, **workload(f"d{version}")})
    apps.StatefulSet("stateful", metadata=named, spec={"replicas": 0, "service_name": "none", **workload("s")})
    skip = {**named, "annotations": {"pulumi.com/skipAwait": "true"}}
    claim = {"access_modes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    core.PersistentVolumeClaim("claim", metadata=skip, spec=claim)


def of_an_account(cidr: str) -> None:
    """A network, a resource in it, and a name."""
    import pulumi_aws as aws

    network = aws.ec2.Vpc("network", cidr_block=f"{cidr}.0.0/16")
    aws.ec2.Subnet("subnet", vpc_id=network.id, cidr_block=f"{cidr}.1.0/24")
    seconds = 3600 if cidr == "10.0" else 7200
    aws.iam.Role("role", name="role", assume_role_policy="{}", max_session_duration=seconds)
