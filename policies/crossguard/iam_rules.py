"""Rules for permissions: AWS policies, Kubernetes roles, plain-text credentials."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from components.secret_files import IN_ENVIRONMENT, IN_ENVIRONMENT_NOTE
from policies.crossguard.kubernetes_rules import WORKLOADS, containers, template
from policies.crossguard.rule import Area, Resource, Rule

_POLICY_TYPES = ("aws:iam/rolePolicy:RolePolicy", "aws:iam/policy:Policy", "aws:iam/userPolicy:UserPolicy")
_READING = re.compile(r"^[a-z0-9-]+:(Describe|List|Get)[A-Za-z*]*$")
_SECRET_NAME = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|CREDENTIAL)", re.IGNORECASE)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str | Mapping) else list(value)


def _statements(document: Any) -> list[Mapping[str, Any]]:
    parsed = json.loads(document) if isinstance(document, str) else document
    return [s for s in _list((parsed or {}).get("Statement")) if s.get("Effect") == "Allow"]


def _wildcard_actions(resource: Resource) -> Iterator[str]:
    for statement in _statements(resource.properties.get("policy")):
        for action in _list(statement.get("Action")):
            if action == "*" or action.endswith(":*"):
                yield f'action "{action}" allows everything'
        if statement.get("NotAction"):
            yield "NotAction allows all actions that AWS adds later"


def _wildcard_resources(resource: Resource) -> Iterator[str]:
    for statement in _statements(resource.properties.get("policy")):
        actions = [a for a in _list(statement.get("Action")) if not _READING.match(a)]
        if "*" in _list(statement.get("Resource")) and actions and not statement.get("Condition"):
            yield f"{', '.join(actions)} on every resource, without a condition"


def _open_trust(resource: Resource) -> Iterator[str]:
    for statement in _statements(resource.properties.get("assumeRolePolicy")):
        principal = statement.get("Principal")
        values = (
            [principal] if isinstance(principal, str) else [v for p in (principal or {}).values() for v in _list(p)]
        )
        if "*" in values and not statement.get("Condition"):
            yield "anyone may assume this role"


def _federated_trust(resource: Resource) -> Iterator[str]:
    for statement in _statements(resource.properties.get("assumeRolePolicy")):
        if "sts:AssumeRoleWithWebIdentity" in _list(statement.get("Action")):
            conditions = json.dumps(statement.get("Condition") or {})
            if ":sub" not in conditions:
                yield "any identity of the issuer may assume this role"


def _admin_attached(resource: Resource) -> Iterator[str]:
    if str(resource.properties.get("policyArn")).endswith(
        ("/AdministratorAccess", "/PowerUserAccess", "/IAMFullAccess")
    ):
        yield f"{str(resource.properties.get('policyArn')).rpartition('/')[2]} is attached"


def _any(text: str) -> Any:
    def check(resource: Resource) -> Iterator[str]:
        yield text

    return check


def _rbac_wildcard(resource: Resource) -> Iterator[str]:
    for rule in resource.properties.get("rules") or []:
        for field in ("verbs", "resources", "apiGroups"):
            if "*" in (rule.get(field) or []):
                yield f'{field} has "*"'


def _cluster_admin(resource: Resource) -> Iterator[str]:
    if (resource.properties.get("roleRef") or {}).get("name") == "cluster-admin":
        yield "cluster-admin is bound"


def _plain_secret(resource: Resource) -> Iterator[str]:
    for container in containers(resource):
        for variable in container.get("env") or []:
            if _SECRET_NAME.search(variable.get("name") or "") and variable.get("value"):
                yield f"{container.get('name')}: {variable.get('name')} has a plain-text value"


def _secret_in_environment(resource: Resource) -> Iterator[str]:
    notes = (template(resource).get("metadata") or {}).get("annotations") or {}
    if notes.get(IN_ENVIRONMENT_NOTE) == "environment":
        return
    for container in containers(resource):
        for source in container.get("envFrom") or []:
            if source.get("secretRef"):
                yield f"{container.get('name')}: all entries of a Secret are environment variables"
        for variable in container.get("env") or []:
            named = (container.get("name"), variable.get("name"))
            if (variable.get("valueFrom") or {}).get("secretKeyRef") and named not in IN_ENVIRONMENT:
                yield f"{container.get('name')}: {variable.get('name')} is an environment variable from a Secret"


RULES = (
    Rule(
        "iam-no-wildcard-actions", Area.IAM, "Policies name the actions that they allow.", "name the actions",
        _POLICY_TYPES, _wildcard_actions, "local",
    ),
    Rule(
        "iam-no-wildcard-resources", Area.IAM, "Policies name the resources that they change.",
        "name the resources, or add a condition", _POLICY_TYPES, _wildcard_resources,
    ),
    Rule(
        "iam-trust-named", Area.IAM, "Roles name who may assume them.", "name the principal, or add a condition",
        ("aws:iam/role:Role",), _open_trust, "local",
    ),
    Rule(
        "iam-federation-scoped", Area.IAM, "Federated roles belong to one service account.",
        "add a condition on the token's sub", ("aws:iam/role:Role",), _federated_trust,
    ),
    Rule(
        "iam-no-administrators", Area.IAM, "No workload is an administrator.", "attach a policy with the needed rights",
        ("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "aws:iam/userPolicyAttachment:UserPolicyAttachment"),
        _admin_attached,
    ),
    Rule(
        "iam-no-access-keys", Area.IAM, "There are no long-lived access keys.", "use a role",
        ("aws:iam/accessKey:AccessKey",), _any("an access key does not expire"),
    ),
    Rule(
        "rbac-no-wildcards", Area.IAM, "Kubernetes roles name what they allow.", "name verbs, resources and API groups",
        ("kubernetes:rbac.authorization.k8s.io/v1:Role", "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole"),
        _rbac_wildcard,
    ),
    Rule(
        "rbac-no-cluster-admin", Area.IAM, "No workload is cluster-admin.", "bind a role with the needed rights",
        ("kubernetes:rbac.authorization.k8s.io/v1:*Binding",), _cluster_admin,
    ),
    Rule(
        "no-plain-secrets", Area.IAM, "Secret values come from Secrets.", "mount the Secret as files",
        WORKLOADS, _plain_secret, "local",
    ),
    Rule(
        "no-secrets-in-environment", Area.IAM, "Containers read secrets from files.", "mount the Secret as files",
        (*WORKLOADS, "kubernetes:serving.kserve.io/*:ServingRuntime"), _secret_in_environment, "local",
    ),
)  # fmt: skip
