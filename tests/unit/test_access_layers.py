"""How the proof reads each layer: selectors and ports, principals, ACLs, subjects, patterns, paths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.access import buckets, cache, gateway, kafka, nats, network, store
from policies.access.kafka import Acl
from policies.access.mesh import Caller, Mesh
from policies.access.network import Address, Pod, Policies
from policies.access.objects import Object, Rendered, Workload, plain

LABELS = {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ({}, True),
        (None, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "back"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, True),
        ({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "zone", "operator": "Exists"}]}, False),
    ],
)
def test_a_label_selector_needs_all_its_requirements(selector: Any, matches: bool) -> None:
    assert network.selected(selector, LABELS) is matches


@pytest.mark.parametrize(
    ("ports", "matches"),
    [
        (None, True),
        ([], True),
        ([{"port": 80}], True),
        ([{"port": "http"}], True),
        ([{"port": "grpc"}], False),
        ([{"port": 80, "protocol": "UDP"}], False),
        ([{"protocol": "TCP"}], True),
        ([{"port": 70, "endPort": 90}], True),
        ([{"port": 70, "endPort": 79}], False),
        ([{"port": 443}, {"port": 80}], True),
    ],
)
def test_a_rule_names_ports_by_number_name_or_range(ports: Any, matches: bool) -> None:
    assert network.port_matches(ports, 80, "http") is matches


def test_a_port_without_a_name_matches_no_name() -> None:
    assert not network.port_matches([{"port": "http"}], 80, "")


def objects(kind: str, *specs: dict[str, Any], namespace: str = "ours") -> list[Object]:
    found: list[Object] = []
    for number, spec in enumerate(specs):
        meta = {"namespace": namespace, "name": f"policy-{number}"}
        found.append(Object(f"kubernetes:x/v1:{kind}", f"x-{number}", {"metadata": meta, "spec": spec}))
    return found


def policies(*specs: dict[str, Any]) -> Policies:
    space = Object("kubernetes:core/v1:Namespace", "theirs", {"metadata": {"name": "theirs", "labels": {"team": "b"}}})
    return Policies(Rendered([*objects("NetworkPolicy", *specs), space]))


WEB, BATCH = Pod("ours", {"app": "web"}), Pod("ours", {"app": "batch"})
THEIRS = Pod("theirs", {"app": "web"})
INTO_WEB: dict[str, Any] = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}


def enters(source: Pod | Address, *specs: dict[str, Any]) -> bool:
    return policies(*specs).enters(source, WEB, 80, "http") is not None


def test_a_pod_that_no_policy_selects_is_open_and_one_without_rules_is_closed() -> None:
    assert enters(BATCH)
    assert not enters(BATCH, INTO_WEB)
    assert enters(BATCH, {**INTO_WEB, "policyTypes": ["Egress"]}), "a policy for egress does not close ingress"
    assert enters(BATCH, INTO_WEB, {**INTO_WEB, "ingress": [{}]}), "rights of several policies add up"


@pytest.mark.parametrize(
    ("peer", "who"),
    [
        ({"podSelector": {}}, {"batch"}),
        ({"podSelector": {"matchLabels": {"app": "web"}}}, set()),
        ({"namespaceSelector": {}}, {"batch", "theirs"}),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, {"theirs"}),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "theirs"}}}, {"theirs"}),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "batch"}}}, {"batch"}),
        ({"ipBlock": {"cidr": "198.51.100.0/24"}}, {"address"}),
        ({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["198.51.100.0/24"]}}, set()),
    ],
)
def test_a_peer_is_pods_of_namespaces_or_a_block_of_addresses(peer: dict[str, Any], who: set[str]) -> None:
    ends = {"batch": BATCH, "theirs": THEIRS, "address": Address("198.51.100.7")}
    rule = {**INTO_WEB, "ingress": [{"from": [peer]}]}
    assert {name for name, end in ends.items() if enters(end, rule)} == who


def test_policy_types_follow_from_the_rules_if_they_are_not_given() -> None:
    spec: dict[str, Any] = {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}
    found = policies(spec)
    assert found.leaves(WEB, BATCH, 53, "") and not found.leaves(WEB, BATCH, 80, "")
    assert not found.enters(BATCH, WEB, 80, ""), "Ingress is always among the types"


TARGET = Workload("billing", "ours", {"app": "billing"}, "billing", {8080: "http"})
ROUTER = Caller("ours", "router")


def meshed(*specs: dict[str, Any], peers: tuple[dict[str, Any], ...] = ()) -> Mesh:
    return Mesh(Rendered([*objects("AuthorizationPolicy", *specs), *objects("PeerAuthentication", *peers)]))


def source(**fields: Any) -> dict[str, Any]:
    return {"from": [{"source": fields}]}


@pytest.mark.parametrize(
    ("specs", "admitted"),
    [
        ([], True),
        ([{}], False),
        ([{"action": "ALLOW", "rules": [{}]}], True),
        ([{"rules": [source(principals=["cluster.local/ns/ours/sa/router"])]}], True),
        ([{"rules": [source(principals=["cluster.local/ns/ours/sa/*"])]}], True),
        ([{"rules": [source(principals=["*"])]}], True),
        ([{"rules": [source(principals=["cluster.local/ns/ours/sa/gateway"])]}], False),
        ([{"rules": [source(notPrincipals=["cluster.local/ns/ours/sa/router"])]}], False),
        ([{"rules": [source(namespaces=["ours"])]}], True),
        ([{"rules": [source(namespaces=["theirs"])]}], False),
        ([{"rules": [{"to": [{"operation": {"ports": ["8080"]}}]}]}], True),
        ([{"rules": [{"to": [{"operation": {"ports": ["9090"]}}]}]}], False),
        ([{"rules": [{}]}, {"action": "DENY", "rules": [source(namespaces=["ours"])]}], False),
        ([{"rules": [{}]}, {"action": "DENY", "rules": [source(namespaces=["theirs"])]}], True),
        ([{"action": "DENY", "rules": [source(namespaces=["theirs"])]}], True),
        ([{"selector": {"matchLabels": {"app": "audit"}}}], True),
        ([{}, {"rules": [source(namespaces=["ours"])]}], True),
    ],
)
def test_a_denial_wins_and_an_allow_policy_closes_the_rest(specs: list[dict[str, Any]], admitted: bool) -> None:
    assert (meshed(*specs).admits(ROUTER, TARGET, 8080) is not None) is admitted


def test_strict_mutual_tls_refuses_callers_without_an_identity_except_at_permissive_ports() -> None:
    strict: dict[str, Any] = {"mtls": {"mode": "STRICT"}}
    own = {"selector": {"matchLabels": {"app": "billing"}}, **strict, "portLevelMtls": {"8443": {"mode": "PERMISSIVE"}}}
    open_to_all = {"rules": [{}]}
    assert meshed(open_to_all).admits(Caller(), TARGET, 8080), "Istio's default accepts plaintext"
    assert not meshed(open_to_all, peers=(strict,)).admits(Caller(), TARGET, 8080)
    assert not meshed(open_to_all, peers=(own, strict)).admits(Caller(), TARGET, 8080)
    assert meshed(open_to_all, peers=(own, strict)).admits(Caller(), TARGET, 8443)


def acl(user: str, name: str, operation: str, pattern: str = "LITERAL", deny: bool = False) -> Acl:
    return Acl(user, "TOPIC", name, pattern, operation, deny, "source")


@pytest.mark.parametrize(
    ("acls", "operation", "allowed"),
    [
        ([acl("me", "orders", "READ")], "READ", True),
        ([acl("me", "orders", "READ")], "DESCRIBE", True),
        ([acl("me", "orders", "READ")], "WRITE", False),
        ([acl("me", "orders", "ALL")], "DELETE", True),
        ([acl("me", "ord", "READ", "PREFIXED")], "READ", True),
        ([acl("me", "ord", "READ")], "READ", False),
        ([acl("me", "*", "READ")], "READ", True),
        ([acl("*", "orders", "READ")], "READ", True),
        ([acl("you", "orders", "READ")], "READ", False),
        ([acl("me", "orders", "READ"), acl("me", "orders", "READ", deny=True)], "READ", False),
        ([acl("me", "orders", "READ"), acl("*", "o", "ALL", "PREFIXED", deny=True)], "READ", False),
    ],
)
def test_kafkas_acls_add_up_and_a_denial_wins(acls: list[Acl], operation: str, allowed: bool) -> None:
    assert (kafka.verdict(acls, "me", "TOPIC", "orders", operation, "") is not None) is allowed


def test_everybody_may_do_what_no_acl_is_about_only_where_kafka_is_told_so() -> None:
    others = [acl("you", "invoices", "READ")]
    assert kafka.verdict(others, "me", "TOPIC", "orders", "READ", "the configuration") == "the configuration"
    assert kafka.verdict(others, "me", "TOPIC", "orders", "READ", "") is None
    assert kafka.verdict(others, "me", "TOPIC", "invoices", "READ", "the configuration") is None


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("a.*.c", "a.b.c", True),
    ],
)
def test_wildcards_of_nats_stand_for_tokens(pattern: str, subject: str, covered: bool) -> None:
    assert nats.matches(pattern, subject) is covered


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=5))
def test_a_subject_covers_itself_and_is_covered_by_everything(tokens: list[str]) -> None:
    subject = ".".join(tokens)
    assert nats.matches(subject, subject) and nats.matches(">", subject)
    assert nats.matches(".".join("*" for _ in tokens), subject)
    assert not nats.matches(f"{subject}.>", subject)


@pytest.mark.parametrize(
    ("rights", "allowed"),
    [
        (None, True),
        ("a.>", True),
        (["b", "a.b"], True),
        ({"allow": ["a.b"]}, True),
        ({"allow": []}, False),
        ({"allow": [">"], "deny": ["a.*"]}, False),
        ({"deny": ["b"]}, True),
    ],
)
def test_permissions_of_nats_are_a_list_or_allow_and_deny(rights: Any, allowed: bool) -> None:
    assert nats.permitted(rights, "a.b") is allowed


def accounts(exports: list[Any], imports: list[Any]) -> nats.Server:
    return nats.Server({"accounts": {"ONE": {"exports": exports}, "TWO": {"imports": imports}}}, "nats.conf")


def test_a_subject_passes_if_it_is_exported_to_and_imported_by_an_account() -> None:
    taken = [{"stream": {"account": "ONE", "subject": "a.>"}}]
    assert accounts([{"stream": "a.>", "accounts": ["TWO"]}], taken).passes("ONE", "TWO", "stream", "a.b") == "a.b"
    assert accounts([{"stream": "a.>"}], taken).passes("ONE", "TWO", "stream", "a.b") == "a.b", "for everybody"
    assert accounts([{"stream": "a.>", "accounts": ["SIX"]}], taken).passes("ONE", "TWO", "stream", "a.b") is None
    assert accounts([{"stream": "a.>", "accounts": ["TWO"]}], []).passes("ONE", "TWO", "stream", "a.b") is None
    assert accounts([{"stream": "b"}], taken).passes("ONE", "TWO", "stream", "a.b") is None
    assert accounts([{"service": "a.>"}], taken).passes("ONE", "TWO", "stream", "a.b") is None
    renamed = [{"service": {"account": "ONE", "subject": "a.>"}, "to": "z.>"}]
    assert accounts([{"service": "a.>"}], renamed).passes("ONE", "TWO", "service", "a.b") == "z.b"


@pytest.mark.parametrize(
    ("rules", "keys", "commands"),
    [
        ("on >x ~a:* +@all", ["a:*"], {"get", "set", "flushall"}),
        ("on >x ~a:* +@all -@dangerous", ["a:*"], {"get", "set"}),
        ("on >x ~* resetkeys ~a:* +get", ["a:*"], {"get"}),
        ("on >x allkeys -@all +get", ["*"], {"get"}),
        ("on >x ~a:* +@all -@all", ["a:*"], set()),
        ("on >x ~a:* +@read +set -get", ["a:*"], {"set"}),
    ],
)
def test_rules_of_a_cache_user_apply_from_left_to_right(rules: str, keys: list[str], commands: set[str]) -> None:
    (user,) = cache.parse(f"user me {rules}\n")
    assert user.on and user.keys == keys
    assert user.commands & {"get", "set", "flushall"} == commands


def test_a_rule_that_the_proof_does_not_know_is_an_error() -> None:
    for rules in ("on (~x +get)", "on +@geo"):
        with pytest.raises(ValueError, match="unknown here"):
            list(cache.parse(f"user me {rules}"))


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("kv/data/a/*", "kv/data/a/b/c", True),
        ("kv/data/a/*", "kv/data/ab", False),
        ("kv/data/a*", "kv/data/ab", True),
        ("kv/data/+/x", "kv/data/a/x", True),
        ("kv/data/+/x", "kv/data/a/b/x", False),
        ("sys/seal", "sys/seal", True),
        ("sys/seal", "sys/seal/x", False),
    ],
)
def test_paths_of_a_policy_have_a_star_at_the_end_and_plus_for_a_segment(
    pattern: str, path: str, covered: bool
) -> None:
    assert store.covers(pattern, path) is covered


@pytest.mark.parametrize(
    ("paths", "can"),
    [
        ({"kv/*": ["read"]}, {"read"}),
        ({"kv/*": ["read"], "kv/data/a": ["list"]}, {"list"}),
        ({"kv/*": ["read"], "kv/data/*": ["deny"]}, set()),
        ({"kv/+/a": ["read"], "kv/data/*": ["update"]}, {"update"}),
        ({"other": ["read"]}, set()),
    ],
)
def test_the_most_specific_path_of_a_policy_decides(paths: dict[str, list[str]], can: set[str]) -> None:
    policy = {"path": {path: {"capabilities": each} for path, each in paths.items()}}
    assert store.capabilities([policy], "kv/data/a") == can


def test_policies_of_a_token_add_up_and_a_denial_wins() -> None:
    read: dict[str, Any] = {"path": {"kv/*": {"capabilities": ["read"]}}}
    write: dict[str, Any] = {"path": {"kv/*": {"capabilities": ["update"]}}}
    deny: dict[str, Any] = {"path": {"kv/a": {"capabilities": ["deny"]}}}
    assert store.capabilities([read, write], "kv/a") == {"read", "update"}
    assert store.capabilities([read, deny], "kv/a") == set()


def statement(effect: str, action: Any, resource: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource}


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([], False),
        ([statement("Allow", "s3:GetObject", "arn:aws:s3:::a/*")], True),
        ([statement("Allow", ["s3:*"], ["arn:aws:s3:::b/*", "arn:aws:s3:::a/*"])], True),
        ([statement("Allow", "s3:PutObject", "*")], False),
        ([statement("Allow", "*", "arn:aws:s3:::b/*")], False),
        ([statement("Allow", "*", "*"), statement("Deny", "s3:Get*", "arn:aws:s3:::a/*")], False),
    ],
)
def test_an_iam_policy_needs_a_statement_that_allows_and_none_that_denies(
    statements: list[dict[str, Any]], allowed: bool
) -> None:
    assert buckets.allows(statements, "s3:GetObject", "arn:aws:s3:::a/x") is allowed


@pytest.mark.parametrize(
    ("match", "path", "matches"),
    [
        ({"prefix": "/v1/"}, "/v1/x", True),
        ({"prefix": "/v1/"}, "/v1", False),
        ({"path_separated_prefix": "/v1/files"}, "/v1/files/x", True),
        ({"path_separated_prefix": "/v1/files"}, "/v1/files2", False),
        ({"path": "/docs"}, "/docs", True),
        ({"path": "/docs"}, "/docs/x", False),
        ({"safe_regex": {"regex": ".*%2F.*"}}, "/a%2Fb", True),
        ({"safe_regex": {"regex": "%2F"}}, "/a%2Fb", False),
        ({"prefix": "/", "headers": [{"name": "content-length", "range_match": {}}]}, "/", False),
        (
            {"prefix": "/", "headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": "POST"}}}]},
            "/",
            False,
        ),
    ],
)
def test_envoys_routes_match_whole_paths(match: dict[str, Any], path: str, matches: bool) -> None:
    assert gateway.envoy_matches(match, path) is matches


def test_a_secret_value_is_read_as_its_user_sees_it() -> None:
    mark = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": {"a": [1.0, 1.5]}}
    assert plain({"data": mark}) == {"data": {"a": [1, 1.5]}}
