"""Buckets of the object store: which login or role uses which bucket.

In a pod, the owner alone uses a bucket (Versity's S3 gateway; the setup task tries every other login). In Amazon S3,
the policies of the roles decide, and the bucket must be closed to the public.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from typing import Any

from components.config.platform import PlatformConfig
from policies.access import uses
from policies.access.model import Access, Layer
from policies.access.objects import Object, Rendered, variable

USE, PUBLIC = "use", "anybody"
BACKUPS, SUPERUSER, TASK = "postgres-backup", "postgres", "object-store-task"
_ACTS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket")
_GUARDS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


def _declared(rendered: Rendered) -> tuple[dict[str, str], bool, str]:
    """(owner by bucket, whether roles decide, the object that says so)."""
    found, title = variable(rendered, "object-store-provision", "PROVISION")
    return (found or {}).get("buckets", {}), bool((found or {}).get("by_role")), title


def _roles(rendered: Rendered) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """(service account, title, statements) for each policy of a role that pods assume."""
    accounts = {
        one.inputs["roleArn"]: one.inputs["serviceAccount"]
        for one in rendered.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation")
    }
    for role in rendered.of_type("aws:iam/role:Role"):
        for policy in rendered.of_type("aws:iam/rolePolicy:RolePolicy"):
            account = accounts.get(f"arn:aws:iam:::{role.name}") or _trusted(role)
            if account and policy.inputs.get("role") == role.name and isinstance(policy.inputs.get("policy"), str):
                yield account, policy.title, json.loads(policy.inputs["policy"])["Statement"]


def _trusted(role: Object) -> str:
    """The service account that a role trusts through the cluster's OIDC provider; empty: none."""
    trust = role.inputs.get("assumeRolePolicy")
    match = re.search(r':sub": ?"system:serviceaccount:[^:"]+:([^"]+)"', trust) if isinstance(trust, str) else None
    return match[1] if match else ""


def _listed(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def allows(statements: list[dict[str, Any]], action: str, resource: str) -> bool:
    """Whether an IAM policy allows an action. A denial wins."""
    allowed = False
    for statement in statements:
        acts = any(fnmatch.fnmatchcase(action, one) for one in _listed(statement.get("Action", [])))
        about = any(fnmatch.fnmatchcase(resource, one) for one in _listed(statement.get("Resource", [])))
        if acts and about:
            if statement.get("Effect") == "Deny":
                return False
            allowed = True
    return allowed


def granted(rendered: Rendered) -> dict[Access, str]:
    """All that owners and roles may do."""
    owners, by_role, title = _declared(rendered)
    found = dict[Access, str]()
    if not by_role:
        return {Access(owner, USE, f"bucket {bucket}"): f"{title}, {bucket}" for bucket, owner in owners.items()}
    for bucket in rendered.of_type("aws:s3/bucket:Bucket"):
        arn, name = f"arn:aws:s3:::{bucket.inputs['bucket']}", _short(bucket, owners)
        for account, role, statements in _roles(rendered):
            if any(allows(statements, act, arn if act == "s3:ListBucket" else f"{arn}/x") for act in _ACTS):
                found[Access(account, USE, f"bucket {name}")] = role
        if not _closed(bucket, rendered):
            found[Access(PUBLIC, USE, f"bucket {name}")] = f"{bucket.title} without a whole BucketPublicAccessBlock"
    return found


def _short(bucket: Object, owners: dict[str, str]) -> str:
    return next((name for name in owners if bucket.name.endswith(f"-{name}")), bucket.name)


def _closed(bucket: Object, rendered: Rendered) -> bool:
    blocks = rendered.of_type("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock")
    mine = [one for one in blocks if one.name == bucket.name]
    return any(all(one.inputs.get(guard) for guard in _GUARDS) for one in mine)


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """Services use their buckets; PostgreSQL keeps its backups in one, unless RDS keeps them."""
    found, data = dict[Access, str](), config.data
    if data.object_store is None:
        return found
    for name, record in uses.records(config).items():
        for bucket in record.buckets:
            found[Access(name, USE, f"bucket {bucket}")] = f"record of {name}: buckets"
    if data.postgres and not data.postgres.rds:
        found[Access(SUPERUSER, USE, f"bucket {BACKUPS}")] = "PostgreSQL keeps backups there"
    if uses.saves_snapshots(config):
        found[Access(uses.SNAPSHOTS, USE, f"bucket {uses.SNAPSHOTS}")] = "snapshots of the secret store"
    if data.object_store.s3:
        for access in list(found):
            found[Access(TASK, USE, access.target)] = "the setup task writes and reads an object"
    return found


def _holder(access: Access, rendered: Rendered) -> str:
    _, by_role, title = _declared(rendered)
    return f"the role of {access.who}" if by_role else title or "the setup task of the object store"


LAYER = Layer(
    "buckets",
    "Buckets",
    "Which login, or in Amazon S3 which pods' role, uses which bucket, and whether one is open to the public.",
    granted,
    intended,
    _holder,
)
