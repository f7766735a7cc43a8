"""Kubernetes' RBAC: which of the platform's service accounts does what at the API server.

Semantics: Kubernetes documentation, "Using RBAC Authorization". Rules only add rights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from components.config.platform import PlatformConfig
from components.config.traces import GATEWAY as SPANS
from policies.access import uses
from policies.access.model import Access, Layer
from policies.access.objects import Object, Rendered

_ALL_ACCOUNTS = ("system:serviceaccounts", "system:authenticated", "system:unauthenticated")


_READ = ("get", "list", "watch")
_ISTIOD: tuple[tuple[tuple[str, ...], str], ...] = (
    *((_READ, f"*.{group}.istio.io in {{space}}") for group in ("config", "extensions", "networking", "security")),
    (_READ, "*.telemetry.istio.io in {space}"),
    *((_READ, f"{kind} in {{space}}") for kind in ("pods", "services", "endpoints")),
    (_READ, "endpointslices.discovery.k8s.io in {space}"),
    (_READ, "ingresses.networking.k8s.io in {space}"),
    ((*_READ, "create", "update"), "configmaps in {space}"),
    (("get", "create", "update", "patch"), "leases.coordination.k8s.io in {space}"),
    (_READ, "customresourcedefinitions.apiextensions.k8s.io in the cluster"),
    *((_READ, f"{kind} in the cluster") for kind in ("namespaces", "nodes")),
    (_READ, "ingressclasses.networking.k8s.io in the cluster"),
    *(
        (_READ, f"{kind}webhookconfigurations.admissionregistration.k8s.io in the cluster")
        for kind in ("mutating", "validating")
    ),
    (("create",), "tokenreviews.authentication.k8s.io in the cluster"),
)
"""(verbs, resource) of the mesh's control plane. It reads no Secrets."""


def _subjects(binding: Object, space: str) -> Iterator[str]:
    """Service accounts of the platform's namespace, and groups, that a binding names."""
    for one in binding.inputs.get("subjects") or ():
        if one["kind"] == "ServiceAccount" and one.get("namespace", binding.namespace) == space:
            yield one["name"]
        elif one["kind"] == "Group" and (one["name"] in _ALL_ACCOUNTS or one["name"].endswith(f":{space}")):
            yield f"every account of {one['name']}"


def granted(rendered: Rendered) -> dict[Access, str]:
    """All rights of the platform's service accounts."""
    space, found = rendered.namespace, dict[Access, str]()
    for binding in rendered.of_kind("RoleBinding", "ClusterRoleBinding"):
        reference = binding.inputs["roleRef"]
        role = rendered.named(reference["kind"], reference["name"])
        where = f"in {binding.namespace}" if binding.kind == "RoleBinding" else "in the cluster"
        for account in _subjects(binding, space):
            if role is None:
                access = Access(account, f"do what the role {reference['name']} says", where)
                found[access] = binding.title
                continue
            for rule in role.inputs.get("rules") or ():
                for verb, target in _rights(rule):
                    found[Access(account, verb, f"{target} {where}")] = binding.title
    return found


def _rights(rule: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(verb, resource) of a rule."""
    names = f" {', '.join(rule['resourceNames'])}" if rule.get("resourceNames") else ""
    for verb in rule["verbs"]:
        for group in rule.get("apiGroups") or ("",):
            for resource in rule.get("resources") or ():
                yield verb, f"{resource}{'.' + group if group else ''}{names}"
        for path in rule.get("nonResourceURLs") or ():
            yield verb, path


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """The few rights that parts need."""
    found, space = dict[Access, str](), config.cluster.namespace
    if any(model.serving for model in config.models):
        for verb in ("list", "watch"):
            target = f"inferenceservices.serving.kserve.io in {space}"
            found[Access(uses.FRONT.name, verb, target)] = "it finds models that KServe serves"
    if (kafka := config.data.kafka) and kafka.msk is None and kafka.replicas > 1:
        found[Access(uses.KAFKA, "get", "nodes in the cluster")] = "brokers read their node's zone"
    if config.security.secret_store:
        target = "tokenreviews.authentication.k8s.io in the cluster"
        found[Access(uses.STORE, "create", target)] = "it reviews tokens of service accounts"
    if config.observability.traces:
        for verb in _READ:
            found[Access(SPANS, verb, f"pods in {space}")] = "it finds the pods that spans come from"
    if config.own_mesh:
        for access in _ISTIOD:
            for verb in access[0]:
                found[Access(uses.ISTIOD, verb, access[1].format(space=space))] = "it watches what sidecars need"
    return found


def _holder(access: Access, rendered: Rendered) -> str:
    return f"the roles that are bound to {access.who}"


LAYER = Layer(
    "rbac",
    "RBAC",
    "Which service account of the platform's namespace does what at the API server. Roles of operators from Helm "
    "charts are not rendered here.",
    granted,
    intended,
    _holder,
)
