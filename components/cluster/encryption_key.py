"""A KMS key with rotation. There is one key per purpose, so that access to one key gives no access to others' data."""

from __future__ import annotations

from typing import NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
from pydantic import Field

from components.base import PlatformComponent
from components.cluster import iam
from components.inputs import Inputs, Text, checked


class EncryptionKeyArgs(TypedDict):
    """Inputs of a key."""

    purpose: pulumi.Input[str]
    """Description of the encrypted data."""
    account_id: pulumi.Input[str]
    """ID of the AWS account that administers the key."""
    services: NotRequired[list[str]]
    """AWS services that may use the key, such as "logs.eu-central-1.amazonaws.com"."""


class EncryptionKeyInputs(Inputs):
    """What `EncryptionKeyArgs` may hold."""

    purpose: Text = Field(description="Description of the encrypted data")
    account_id: Text = Field(description="AWS account that administers the key, 12 digits")
    services: list[str] = Field(default_factory=list[str], description="AWS services that may use the key")


class EncryptionKeyResources(NamedTuple):
    """Resources of a key."""

    key: aws.kms.Key
    alias: aws.kms.Alias


class EncryptionKey(PlatformComponent):
    """A customer managed key, with yearly rotation and a waiting period of 30 days before deletion."""

    arn: pulumi.Output[str]
    """ARN of the key."""

    def __init__(self, name: str, args: EncryptionKeyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(EncryptionKeyInputs, self, name, args)
        super().__init__("cluster", name, args, opts)
        services = inputs.services
        key = aws.kms.Key(
            name,
            description=inputs.purpose,
            enable_key_rotation=True,
            deletion_window_in_days=30,
            policy=pulumi.Output.from_input(inputs.account_id).apply(lambda a: _policy(a, services)),
            opts=self.child(),
        )
        alias = aws.kms.Alias(name, name=f"alias/cogniforge/{name}", target_key_id=key.key_id, opts=self.child())
        self.arn = key.arn
        self.resources = EncryptionKeyResources(key, alias)
        self.finish({"kind": "", "namespace": "", "name": name, "probe": "the key is enabled"}, arn=self.arn)


def _policy(account: str, services: list[str]) -> str:
    # In a key policy, the resource "*" means this key.
    allowed = [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
    ]
    use = ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"]
    allowed += [
        {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": use,
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:SourceAccount": account}}
            if not service.startswith("logs.")
            else {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:*:{account}:*"}},
        }
        for service in services
    ]
    return iam.document(allowed)
