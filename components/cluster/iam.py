"""IAM policy documents and roles. Actions and resources are always explicit, so that no wildcard is accidental."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from components.config.eks import WorkloadIdentity

AWS_POLICY = "arn:aws:iam::aws:policy"


def statement(
    actions: Sequence[str], resources: Sequence[str], conditions: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A policy statement that allows `actions` on `resources` under `conditions`."""
    allow: dict[str, Any] = {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return {**allow, "Condition": dict(conditions)} if conditions else allow


def document(statements: Sequence[Mapping[str, Any]]) -> str:
    """A policy document as JSON."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, sort_keys=True)


def trusted_service(service: str) -> str:
    """A trust policy for an AWS service, such as "eks.amazonaws.com"."""
    return document(
        [{"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Principal": {"Service": service}}]
    )


def service_role(
    name: str, service: str, policies: Sequence[str], opts: pulumi.ResourceOptions, attached: pulumi.Resource
) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
    """A role for an AWS service with managed policies. Returns the role, and the attachments to depend on."""
    role = aws.iam.Role(name, assume_role_policy=trusted_service(service), opts=opts)
    attachments: list[pulumi.Resource] = [
        aws.iam.RolePolicyAttachment(
            f"{name}-{policy.rpartition('/')[2]}",
            role=role.name,
            policy_arn=f"{AWS_POLICY}/{policy}",
            opts=pulumi.ResourceOptions(parent=attached),
        )
        for policy in policies
    ]
    return role, attachments


class WorkloadRole:
    """AWS permissions of one Kubernetes service account, through Pod Identity or IRSA."""

    def __init__(
        self,
        name: str,
        cluster: pulumi.Input[str],
        issuer: tuple[pulumi.Output[str], pulumi.Output[str]] | None,
        account: tuple[pulumi.Input[str], str],
        opts: pulumi.ResourceOptions,
        *,
        policy: pulumi.Input[str] | None = None,
        managed: str = "",
    ) -> None:
        """`issuer`: (ARN, URL) of the OIDC provider, for IRSA. `account`: (namespace, service account)."""
        namespace, service_account = account
        if issuer is None:
            trust: pulumi.Input[str] = trusted_service("pods.eks.amazonaws.com")
        else:
            trust = pulumi.Output.all(*issuer, namespace).apply(
                lambda known: _web_identity(known[0], known[1], known[2], service_account)
            )
        self.role = aws.iam.Role(name, assume_role_policy=trust, opts=opts)
        self.arn = self.role.arn
        if policy is not None:
            aws.iam.RolePolicy(name, role=self.role.name, policy=policy, opts=opts)
        if managed:
            aws.iam.RolePolicyAttachment(name, role=self.role.name, policy_arn=f"{AWS_POLICY}/{managed}", opts=opts)
        self.identity = WorkloadIdentity.IRSA if issuer else WorkloadIdentity.POD_IDENTITY
        if issuer is None:
            aws.eks.PodIdentityAssociation(
                name,
                cluster_name=cluster,
                namespace=namespace,
                service_account=service_account,
                role_arn=self.role.arn,
                opts=opts,
            )

    @property
    def annotations(self) -> dict[str, pulumi.Input[str]]:
        """Annotations that the service account needs; empty with Pod Identity."""
        return {"eks.amazonaws.com/role-arn": self.arn} if self.identity is WorkloadIdentity.IRSA else {}


def _web_identity(arn: str, url: str, namespace: str, service_account: str) -> str:
    issuer = url.removeprefix("https://")
    return document(
        [
            {
                "Effect": "Allow",
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Principal": {"Federated": arn},
                "Condition": {
                    "StringEquals": {
                        f"{issuer}:aud": "sts.amazonaws.com",
                        f"{issuer}:sub": f"system:serviceaccount:{namespace}:{service_account}",
                    }
                },
            }
        ]
    )
