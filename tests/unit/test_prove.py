"""In every environment, only what the records ask for is possible; a hole in a layer, or a lost right, is named."""

from __future__ import annotations

import base64
import functools
import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, cast

import pytest

from components import secret_files
from components.config.parse import parse
from components.security import policy_bundle
from policies.access import proof, render
from policies.access.model import Counterexample, compare
from policies.access.objects import UNCAPTURED, Object, Rendered
from policies.access.proof import LAYERS
from tests.golden import FOLDER
from tests.unit.test_platform import ENVIRONMENTS, registered, registered_of, stack_file, without_servers

pytestmark = pytest.mark.xdist_group("tree")
LAYER = {layer.name: layer for layer in LAYERS}
PLAIN = "local without servers"
WITH_STORE, WITH_KEYCLOAK, WITH_OPA = "local with a secret store", "staging with Keycloak", "local with OPA"
WITH_PROMETHEUS = "local with Prometheus"
WITH_LOGS = "local with logs"
WITH_TRACES = "local with traces"
WITH_LANGFUSE = "local with traces for Langfuse"
WITH_MESH = "local with sidecars"
WITH_ALL = "local with all parts and sidecars"
Change = Callable[[dict[str, Any]], None]


@functools.cache
def configuration(environment: str) -> dict[str, Any]:
    if environment == PLAIN:
        return without_servers("local")
    if environment == WITH_STORE:
        return {**without_servers("local"), "security": {"secretStore": {"replicas": 1}}}
    if environment == WITH_KEYCLOAK:
        urls = {"outside": "https://login.example.com:9443", "inside": "https://login.people.svc:8443/x"}
        oidc = {name: {"issuer": url, "clientId": "x", "secretName": name} for name, url in urls.items()}
        providers = [{"name": name, "oidc": one} for name, one in oidc.items()]
        return {**stack_file("staging"), "security": {"keycloak": {"providers": providers}}}
    if environment == WITH_MESH:
        return {**without_servers("local"), "mesh": {"mode": "sidecar"}, "security": {"opa": {}}}
    if environment == WITH_ALL:
        return {**without_servers("local"), "profile": "full", "mesh": {"mode": "sidecar"}}
    if environment == WITH_OPA:
        return {**without_servers("local"), "security": {"opa": {}}}
    if environment == WITH_PROMETHEUS:
        return {**without_servers("local"), "observability": {"prometheus": {}}}
    if environment == WITH_LOGS:
        return {**without_servers("local"), "observability": {"logs": {}}}
    if environment == WITH_TRACES:
        return {**without_servers("local"), "observability": {"traces": {}}}
    if environment == WITH_LANGFUSE:
        langfuse = {"url": "http://langfuse.tracing.svc:3000/api/public/otel", "secretName": "langfuse"}
        return {**without_servers("local"), "observability": {"traces": {"langfuse": langfuse}}}
    return stack_file(environment)


@functools.cache
def rendered(environment: str) -> Rendered:
    known = environment in ENVIRONMENTS
    return render.read(registered(environment) if known else registered_of(configuration(environment)))


def found(environment: str, layer: str, objects: Rendered) -> list[Counterexample]:
    return compare(LAYER[layer], parse(configuration(environment)), objects)[1]


@pytest.mark.parametrize("layer", LAYER)
@pytest.mark.parametrize(
    "environment",
    [
        *ENVIRONMENTS,
        PLAIN,
        WITH_STORE,
        WITH_KEYCLOAK,
        WITH_OPA,
        WITH_PROMETHEUS,
        WITH_LOGS,
        WITH_MESH,
        WITH_ALL,
        WITH_TRACES,
        WITH_LANGFUSE,
    ],
)
def test_only_what_the_records_ask_for_is_possible(environment: str, layer: str) -> None:
    assert [str(one) for one in found(environment, layer, rendered(environment))] == []


EVERYWHERE = ("gateway", "network", "kafka", "nats", "postgres", "cache", "buckets", "secrets")


@pytest.mark.parametrize(
    ("environment", "layers"),
    [
        (PLAIN, EVERYWHERE),
        ("staging", (*EVERYWHERE, "mesh", "rbac")),
        ("prod", (*EVERYWHERE, "mesh", "rbac")),
        (WITH_STORE, ("store", "rbac")),
        (WITH_OPA, ("policy",)),
        (WITH_MESH, ("mesh", "network", "rbac")),
    ],
)
def test_a_proof_is_about_something(environment: str, layers: tuple[str, ...]) -> None:
    assert [layer for layer in layers if not LAYER[layer].granted(rendered(environment))] == []


@dataclass(frozen=True)
class Case:
    """One change of the rendered objects, and the counterexample that names it."""

    layer: str
    environment: str
    kind: str
    """Kind of the changed object."""
    name: str
    """Regular expression for the end of its title."""
    change: Change
    said: str


def replaced(*path: Any, by: Any) -> Change:
    """Sets a field; the last value may be a function of the present one."""

    def change(inputs: dict[str, Any]) -> None:
        place: Any = inputs
        for step in path[:-1]:
            place = place[step]
        present = place.get(path[-1]) if isinstance(place, dict) else place[path[-1]]
        place[path[-1]] = by(present) if callable(by) else by

    return change


def in_json(*path: Any, by: Any, within: tuple[Any, ...]) -> Change:
    """The same inside a field that holds JSON as text."""

    def edited(text: str) -> str:
        content = json.loads(text.replace("$HOSTNAME", '"host"'))
        replaced(*path, by=by)(content)
        return json.dumps(content)

    return replaced(*within, by=edited)


def in_text(old: str, new: str, *path: Any) -> Change:
    def edited(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return replaced(*path, by=edited)


def variable(name: str, edit: Callable[[str], str]) -> Change:
    """Changes an environment variable of a task."""

    def change(inputs: dict[str, Any]) -> None:
        entries = inputs["spec"]["template"]["spec"]["containers"][0]["env"]
        entry = next(one for one in entries if one["name"] == name)
        entry["value"] = edit(entry["value"])

    return change


def owner(kind: str, of: str, new: str) -> Change:
    """Gives a database or a bucket another owner."""

    def edit(text: str) -> str:
        content = json.loads(text)
        if kind == "bucket":
            content["buckets"][of] = new
        else:
            next(one for one in content["databases"] if one["name"] == of)["login"] = new
        return json.dumps(content)

    return variable("PROVISION", edit)


def right(user: str, kind: str, name: str, operation: str) -> dict[str, str]:
    return {"user": user, "kind": kind, "name": name, "pattern": "LITERAL", "operation": operation}


def everybody(rules: list[Any]) -> list[Any]:
    return [{**rule, "from": [{"podSelector": {}}]} for rule in rules]


def store_policy(role: str, path: str, *can: str) -> Change:
    """Adds a path to a role's policy in the content of the secret store; without capabilities, removes it."""

    def edit(policy: str) -> str:
        content = json.loads(policy)
        if can:
            content["path"][path] = {"capabilities": list(can)}
        else:
            del content["path"][path]
        return json.dumps(content)

    def change(inputs: dict[str, Any]) -> None:
        data = inputs["data"]
        (key,) = [key for key, text in data.items() if '"token_policies"' in text]
        content = json.loads(data[key])
        place = content.get("content", content)["policies"]
        place[role] = edit(place[role])
        data[key] = json.dumps(content)

    return change


ACL = ("stringData", "users.acl")
CONF = ("stringData", "nats.conf")
RIGHTS = ("data", "document.json")
BILLING = in_json("accounts", "BILLING", "imports", by=[], within=CONF)


def listens(bootstrap: dict[str, Any]) -> None:
    """Envoy sends all unknown paths to Billing."""
    listener = bootstrap["static_resources"]["listeners"][0]
    host = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]
    host["routes"].append({"match": {"prefix": "/"}, "route": {"cluster": "billing"}})


def no_secrets(inputs: dict[str, Any]) -> None:
    pod = inputs["spec"]["template"]["spec"]
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != secret_files.VOLUME]


def envoy(edit: Change) -> Change:
    def change(inputs: dict[str, Any]) -> None:
        data = inputs["stringData"]
        (key,) = [key for key, text in data.items() if "static_resources" in text]
        content = json.loads(data[key])
        edit(content)
        data[key] = json.dumps(content)

    return change


def forgets(bootstrap: dict[str, Any]) -> None:
    """Envoy has no route to Billing."""
    listener = bootstrap["static_resources"]["listeners"][0]
    host = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]
    host["routes"] = [one for one in host["routes"] if (one.get("route") or {}).get("cluster") != "billing"]


def open_bucket(accounts: dict[str, Any]) -> dict[str, Any]:
    """The Router may write the bucket of tenants: exported, imported and permitted."""
    subject = "$KV.tenants.>"
    for one in accounts["PLATFORM"]["exports"]:
        if one.get("service") == subject:
            one["accounts"].append("ROUTER")
    accounts["ROUTER"]["imports"].append({"service": {"account": "PLATFORM", "subject": subject}, "to": subject})
    accounts["ROUTER"]["users"][0]["permissions"]["publish"]["allow"].append(subject)
    return accounts


def open_subject(accounts: dict[str, Any]) -> dict[str, Any]:
    """Billing hears a subject of the Router."""
    accounts["ROUTER"]["exports"].append({"stream": "router.used", "accounts": ["BILLING"]})
    accounts["BILLING"]["imports"].append({"stream": {"account": "ROUTER", "subject": "router.used"}})
    accounts["BILLING"]["users"][0]["permissions"]["subscribe"]["allow"].append(">")
    return accounts


def operation(method: str, path: str, scopes: list[str] | None) -> Change:
    """Gives an operation other scopes in the bundle of the policies; without scopes, removes it."""

    def change(inputs: dict[str, Any]) -> None:
        bundle = base64.b64decode(inputs["binaryData"][policy_bundle.FILE])
        with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
            files = {one.name: cast("IO[bytes]", archive.extractfile(one)).read() for one in archive}
        data = json.loads(files["data.json"])
        if scopes is None:
            del data["installation"]["exact"][method][path]
        else:
            data["installation"]["exact"][method][path]["scopes"] = scopes
        packed = policy_bundle.archive(files | {"data.json": json.dumps(data).encode()})
        inputs["binaryData"] = {policy_bundle.FILE: base64.b64encode(packed).decode()}

    return change


HOLES = {
    "policy": Case(
        "policy",
        WITH_OPA,
        "ConfigMap",
        "/local-opa-bundle",
        operation("GET", "/v1/tenants", ["manage"]),
        "policy: a key with manage can GET /v1/tenants: ConfigMap cogniforge/local-opa-bundle allows it",
    ),
    "gateway-envoy": Case(
        "gateway",
        PLAIN,
        "Secret",
        "/gateway.*|/local-gateway.*",
        envoy(listens),
        "gateway: clients can reach billing at /metrics: Secret",
    ),
    "gateway-kong": Case(
        "gateway",
        "prod",
        "HTTPRoute",
        "/operators",
        replaced("metadata", "annotations", "konghq.com/plugins", by="gateway-correlation-id"),
        "gateway: clients can reach router at /v1/admin/x: the HTTPRoutes of Kong allows it",
    ),
    "network-ingress": Case(
        "network",
        PLAIN,
        "NetworkPolicy",
        "/billing",
        replaced("spec", "ingress", by=everybody),
        "network: audit can connect to billing:8080: NetworkPolicy cogniforge/billing, ingress rule 1 allows it",
    ),
    "network-egress": Case(
        "network",
        PLAIN,
        "NetworkPolicy",
        "/default-egress",
        replaced("spec", "egress", by=lambda rules: [*rules, {"ports": [{"port": 22}]}]),
        "network: billing can connect to the internet:22: NetworkPolicy cogniforge/default-egress, egress rule 3",
    ),
    "network-namespace": Case(
        "network",
        PLAIN,
        "NetworkPolicy",
        "/nats",
        replaced("spec", "ingress", 1, "from", 0, "namespaceSelector", by={}),
        "network: pods of other namespaces can connect to nats:4222: NetworkPolicy cogniforge/nats, ingress rule 2",
    ),
    "network-everybody": Case(
        "network",
        PLAIN,
        "NetworkPolicy",
        "/cache",
        replaced("spec", "ingress", by=lambda rules: [*rules, {}]),
        "network: audit can connect to cache:6379: NetworkPolicy cogniforge/cache, ingress rule 4 allows it",
    ),
    "mesh-rule": Case(
        "mesh",
        "prod",
        "AuthorizationPolicy",
        "/allow-billing",
        replaced("spec", "rules", by=[{}]),
        "mesh: audit can call billing:8080: AuthorizationPolicy cogniforge/allow-billing, rule 1 allows it",
    ),
    "mesh-capture": Case(
        "mesh",
        WITH_MESH,
        "Deployment",
        "/billing",
        replaced("spec", "template", "metadata", "annotations", UNCAPTURED, by="8080"),
        "mesh: clients outside the mesh can call billing:8080: annotation traffic.sidecar.istio.io/excludeInboundPorts",
    ),
    "mesh-sidecar": Case(
        "mesh",
        WITH_MESH,
        "AuthorizationPolicy",
        "/allow-billing",
        replaced("spec", "rules", by=[{}]),
        "mesh: audit can call billing:8080: AuthorizationPolicy cogniforge/allow-billing, rule 1 allows it",
    ),
    "mesh-principals": Case(
        "mesh",
        "prod",
        "AuthorizationPolicy",
        "/scrape-billing",
        replaced("spec", "rules", 0, "from", 0, "source", "principals", by=["*"]),
        "mesh: service accounts of other namespaces can call billing:8080",
    ),
    "kafka-right": Case(
        "kafka",
        PLAIN,
        "ConfigMap",
        "/kafka-access-guardrails",
        in_json("rights", by=lambda r: [*r, right("", "TOPIC", "invoice.issued.v1", "READ")], within=RIGHTS),
        "kafka: guardrails can READ topic invoice.issued.v1: ConfigMap cogniforge/kafka-access-guardrails allows it",
    ),
    "kafka-prefix": Case(
        "kafka",
        PLAIN,
        "ConfigMap",
        "/kafka-access-router",
        in_json("rights", 0, by=lambda r: {**r, "pattern": "PREFIXED", "name": "u"}, within=RIGHTS),
        "kafka: router can WRITE topic user.changed.v1",
    ),
    "kafka-everyone": Case(
        "kafka",
        PLAIN,
        "ConfigMap",
        "/local-kafka-files",
        in_text("found=false", "found=true", "data", "broker.properties"),
        "kafka: a login without ACLs can WRITE topic unknown: ConfigMap cogniforge/local-kafka-files, allow.everyone",
    ),
    "nats-bucket": Case(
        "nats",
        PLAIN,
        "Secret",
        "/local-nats-files",
        in_json("accounts", by=open_bucket, within=CONF),
        "nats: router can write bucket tenants: Secret cogniforge/local-nats-files, account ROUTER allows it",
    ),
    "nats-subject": Case(
        "nats",
        PLAIN,
        "Secret",
        "/local-nats-files",
        in_json("accounts", by=open_subject, within=CONF),
        "nats: billing can hear router.used of router: Secret cogniforge/local-nats-files, account BILLING allows it",
    ),
    "nats-routes": Case(
        "nats",
        "prod",
        "Secret",
        "/prod-nats-files",
        in_json("cluster", "authorization", by=None, within=CONF),
        "nats: whoever reaches the port can connect as a server the cluster of NATS",
    ),
    "postgres": Case(
        "postgres",
        PLAIN,
        "Job",
        "/local-postgres-provision",
        owner("database", "billing", "prompt"),
        "postgres: prompt can own database billing: Job cogniforge/local-postgres-provision, variable PROVISION",
    ),
    "cache-keys": Case(
        "cache",
        PLAIN,
        "Secret",
        "/local-cache-files",
        in_text("~prompt:*", "~*", *ACL),
        "cache: prompt can use keys embeddings:*: Secret cogniforge/local-cache-files, user prompt allows it",
    ),
    "cache-commands": Case(
        "cache",
        PLAIN,
        "Secret",
        "/local-cache-files",
        in_text(" -@dangerous", "", *ACL),
        "cache: prompt can administer the cache",
    ),
    "cache-names": Case(
        "cache",
        PLAIN,
        "Secret",
        "/local-cache-files",
        in_text(" -scan", "", *ACL),
        "cache: prompt can list the names of all keys",
    ),
    "cache-default": Case(
        "cache",
        PLAIN,
        "Secret",
        "/local-cache-files",
        in_text("user default off", "user default on nopass ~* +@all", *ACL),
        "cache: anybody can use keys prompt:*",
    ),
    "buckets": Case(
        "buckets",
        PLAIN,
        "Job",
        "/local-object-store-provision",
        owner("bucket", "documents", "billing"),
        "buckets: billing can use bucket documents: Job cogniforge/local-object-store-provision",
    ),
    "buckets-public": Case(
        "buckets",
        "prod",
        "BucketPublicAccessBlock",
        ".*documents",
        replaced("blockPublicPolicy", by=False),
        "buckets: anybody can use bucket documents: Bucket prod-object-store-documents without a whole",
    ),
    "store": Case(
        "store",
        WITH_STORE,
        "ConfigMap",
        ".*",
        store_policy("billing", "kv/data/+/*", "read"),
        "store: billing can read secrets of audit: ConfigMap",
    ),
    "store-key": Case(
        "store",
        WITH_STORE,
        "ConfigMap",
        ".*",
        store_policy("platform.operator", "transit/export/*", "read"),
        "store: secret-store-operator can export the key audit.signing",
    ),
    "secrets": Case(
        "secrets",
        PLAIN,
        "Deployment",
        "/guardrails",
        replaced("spec", "template", "spec", "volumes", by=lambda v: [*v, {"secret": {"secretName": "login-billing"}}]),
        "secrets: guardrails can read * of login-billing: Deployment cogniforge/guardrails allows it",
    ),
    "rbac": Case(
        "rbac",
        "prod",
        "Role",
        "/router",
        replaced("rules", 0, "resources", by=["inferenceservices", "secrets"]),
        "rbac: router can list secrets.serving.kserve.io in cogniforge: RoleBinding cogniforge/router allows it",
    ),
    "rbac-group": Case(
        "rbac",
        "prod",
        "RoleBinding",
        "/router",
        replaced("subjects", by=lambda s: [*s, {"kind": "Group", "name": "system:authenticated"}]),
        "rbac: every account of system:authenticated can list inferenceservices.serving.kserve.io",
    ),
}


LOSSES = {
    "policy": Case(
        "policy",
        WITH_OPA,
        "ConfigMap",
        "/local-opa-bundle",
        operation("POST", "/v1/chat/completions", None),
        "policy: a key with inference cannot POST /v1/chat/completions: document of router asks for it",
    ),
    "gateway-envoy": Case(
        "gateway",
        PLAIN,
        "Secret",
        "/gateway.*|/local-gateway.*",
        envoy(forgets),
        "gateway: clients cannot reach billing at /v1/billing/x: record of billing: prefixes asks for it; Secret",
    ),
    "network-ingress": Case(
        "network",
        PLAIN,
        "NetworkPolicy",
        "/nats",
        replaced("spec", "ingress", by=lambda rules: rules[:1]),
        "network: router cannot connect to nats:4222: record of router: sends, hears, keeps, follows asks for it; "
        "NetworkPolicy cogniforge/nats",
    ),
    "network-egress": Case(
        "network",
        PLAIN,
        "NetworkPolicy",
        "/default-egress",
        replaced("spec", "egress", by=lambda rules: rules[:1]),
        "network: prompt cannot connect to postgres:5432: record of prompt: database asks for it; "
        "NetworkPolicy cogniforge/default-egress",
    ),
    "mesh": Case(
        "mesh",
        "prod",
        "AuthorizationPolicy",
        "/allow-nats",
        replaced("spec", "rules", by=[]),
        "mesh: router cannot call nats:4222: record of router: sends, hears, keeps, follows asks for it; "
        "AuthorizationPolicy cogniforge/allow-nats lacks the right",
    ),
    "kafka": Case(
        "kafka",
        PLAIN,
        "ConfigMap",
        "/kafka-access-billing",
        in_json("rights", by=lambda r: [one for one in r if one["name"] != "usage.recorded.v1"], within=RIGHTS),
        "kafka: billing cannot READ topic usage.recorded.v1: record of billing: consumes asks for it; "
        "ConfigMap cogniforge/kafka-access-billing lacks the right",
    ),
    "nats": Case(
        "nats",
        PLAIN,
        "Secret",
        "/local-nats-files",
        BILLING,
        "nats: billing cannot write bucket budgets: record of billing: keeps asks for it; "
        "Secret cogniforge/local-nats-files, account BILLING lacks the right",
    ),
    "postgres": Case(
        "postgres",
        PLAIN,
        "Job",
        "/local-postgres-provision",
        owner("database", "billing", "prompt"),
        "postgres: billing cannot own database billing: record of billing: database asks for it",
    ),
    "cache": Case(
        "cache",
        PLAIN,
        "Secret",
        "/local-cache-files",
        in_text("user prompt on", "user prompt off", *ACL),
        "cache: prompt cannot use keys prompt:*: record of prompt: cache asks for it; "
        "Secret cogniforge/local-cache-files, user prompt lacks the right",
    ),
    "buckets": Case(
        "buckets",
        "prod",
        "RolePolicy",
        ".*retriever.*",
        replaced("policy", by='{"Statement": []}'),
        "buckets: retriever cannot use bucket documents: record of retriever: buckets asks for it; "
        "the role of retriever lacks the right",
    ),
    "store": Case(
        "store",
        WITH_STORE,
        "ConfigMap",
        ".*",
        store_policy("audit", "transit/sign/audit.signing"),
        "store: audit cannot sign with the key audit.signing: record of audit: store_keys asks for it",
    ),
    "secrets": Case(
        "secrets",
        PLAIN,
        "Deployment",
        "/billing",
        no_secrets,
        "secrets: billing cannot read nats of login-billing: record of billing: keeps, follows asks for it; "
        "the pods of billing lacks the right",
    ),
    "rbac": Case(
        "rbac",
        "prod",
        "Role",
        "/router",
        replaced("rules", by=[]),
        "rbac: router cannot list inferenceservices.serving.kserve.io in cogniforge",
    ),
}


def changed(case: Case) -> list[str]:
    def match(one: Object) -> bool:
        if one.kind != case.kind or not re.search(f"({case.name})$", one.title):
            return False
        if case.layer == "store":
            return any('"token_policies"' in str(text) for text in (one.inputs.get("data") or {}).values())
        return case.layer != "gateway" or case.kind == "HTTPRoute" or envoys(one)

    return [
        str(one) for one in found(case.environment, case.layer, rendered(case.environment).changed(match, case.change))
    ]


def envoys(one: Object) -> bool:
    return any("static_resources" in str(text) for text in (one.inputs.get("stringData") or {}).values())


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_in_a_layer_is_named(name: str) -> None:
    case = HOLES[name]
    said = changed(case)
    assert [one for one in said if one.startswith(case.said)], said


@pytest.mark.parametrize("name", LOSSES)
def test_a_right_that_a_layer_lacks_is_named(name: str) -> None:
    case = LOSSES[name]
    said = changed(case)
    assert [one for one in said if one.startswith(case.said)], said


def test_every_layer_has_a_hole_and_a_loss() -> None:
    assert {case.layer for case in HOLES.values()} == {case.layer for case in LOSSES.values()} == set(LAYER)


def test_without_any_policy_everything_is_open() -> None:
    bare = rendered(PLAIN).without(lambda one: one.kind == "NetworkPolicy")
    assert any("no NetworkPolicy that selects the pods" in str(one) for one in found(PLAIN, "network", bare))


def test_the_page_about_access_is_current() -> None:
    page = FOLDER.parents[1] / "docs" / "reference" / "access.md"
    shown = proof.matrix(proof.prove("prod", parse(configuration("prod")), rendered("prod")))
    assert page.read_text() == shown, "run `python docs/generate.py`"
