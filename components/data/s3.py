"""Buckets in Amazon S3: encrypted, versioned, private. A pod accesses its own bucket with its own IAM role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_aws as aws

from components.base import PlatformComponent
from components.cluster import iam
from components.cluster.aws_site import AwsSite
from components.config.managed import S3 as S3Config

_ABANDONED_DAYS = 3


class S3Args(TypedDict):
    """Inputs of a set of buckets."""

    site: AwsSite
    namespace: pulumi.Input[str]
    prefix: str
    """Prefix of bucket names, which must be unique in all of AWS."""
    owners: Mapping[str, str]
    """Service account that owns each bucket, by bucket."""
    prover: str
    """Service account of the check. It may write and read below `.check/` in each bucket."""
    destroy_data: bool


class S3Resources(NamedTuple):
    """Resources of a set of buckets."""

    buckets: Mapping[str, aws.s3.Bucket]
    """By the part of the name after the prefix."""
    roles: tuple[pulumi.Resource, ...]
    """IAM roles of the owners."""


class S3(PlatformComponent):
    """Buckets, and an IAM role per owner."""

    annotations: dict[str, dict[str, pulumi.Input[str]]]
    """Annotations that each owner's service account needs; empty with Pod Identity."""
    ready: list[pulumi.Resource]

    def __init__(self, name: str, config: S3Config, args: S3Args, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("data", name, {"owners": dict(args["owners"])}, opts)
        self._config, self._args = config, args
        buckets = {bucket: self._bucket(bucket) for bucket in sorted(args["owners"])}
        arns = {name: bucket.arn for name, bucket in buckets.items()}
        self.annotations, self.ready = {}, []
        for owner in sorted(set(args["owners"].values())):
            own = [arns[bucket] for bucket, who in args["owners"].items() if who == owner]
            self._role(owner, own)
        self._role(args["prover"], [*arns.values()], ".check/")
        self.resources = S3Resources(buckets, tuple(self.ready))
        self.finish(
            {"kind": "", "namespace": "", "name": args["prefix"], "probe": "an object is written and read"},
            buckets=[f"{args['prefix']}{bucket}" for bucket in sorted(args["owners"])],
        )

    def _role(self, account: str, arns: list[pulumi.Output[str]], below: str = "") -> None:
        site = self._args["site"]
        policy = pulumi.Output.all(site.key_arn, *arns).apply(lambda found: allowed(found[0], found[1:], below))
        role = iam.WorkloadRole(
            f"{self.name}-{account}",
            site.cluster_name,
            site.issuer,
            (self._args["namespace"], account),
            self.child(),
            policy=policy,
        )
        self.annotations[account] = role.annotations
        self.ready.append(role.role)

    def _bucket(self, bucket: str) -> aws.s3.Bucket:
        name, site, keeps = f"{self.name}-{bucket}", self._args["site"], not self._args["destroy_data"]
        made = aws.s3.Bucket(
            name,
            bucket=f"{self._args['prefix']}{bucket}",
            force_destroy=not keeps,
            opts=self.child(protect=keeps),
        )
        options = self.child()
        aws.s3.BucketPublicAccessBlock(
            name,
            bucket=made.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=options,
        )
        aws.s3.BucketOwnershipControls(
            name, bucket=made.id, rule={"object_ownership": "BucketOwnerEnforced"}, opts=options
        )
        default = {"sse_algorithm": "aws:kms", "kms_master_key_id": site.key_arn}
        rule: Any = {"apply_server_side_encryption_by_default": default, "bucket_key_enabled": True}
        aws.s3.BucketServerSideEncryptionConfiguration(name, bucket=made.id, rules=[rule], opts=options)
        aws.s3.BucketVersioning(name, bucket=made.id, versioning_configuration={"status": "Enabled"}, opts=options)
        aws.s3.BucketLifecycleConfiguration(
            name,
            bucket=made.id,
            rules=[
                {
                    "id": "old-versions",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "noncurrent_version_expiration": {"noncurrent_days": self._config.keep_versions_days},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": _ABANDONED_DAYS},
                }
            ],
            opts=options,
        )
        aws.s3.BucketPolicy(name, bucket=made.id, policy=made.arn.apply(_encrypted_only), opts=options)
        return made


def allowed(key_arn: str, arns: list[str], below: str) -> str:
    """IAM policy: access to objects of these buckets below a prefix, and to the buckets' encryption key."""
    objects = [f"{arn}/{below}*" for arn in arns]
    return iam.document(
        [
            iam.statement(["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], objects),
            iam.statement(["s3:ListBucket", "s3:GetBucketLocation"], arns),
            iam.statement(["kms:Decrypt", "kms:GenerateDataKey"], [key_arn]),
        ]
    )


def _encrypted_only(arn: str) -> str:
    """Bucket policy that denies requests without TLS."""
    return iam.document(
        [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ]
    )
