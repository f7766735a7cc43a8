"""The secret store: its rendered resources, and rights that are derived from records only."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config.parse import parse
from components.config.problems import ConfigError
from components.observability import alerts
from components.security import store_names, store_rights, store_settings
from components.security.store_rights import SNAPSHOTS_ACCOUNT
from components.services.record import KeyUse, ServiceRecord
from components.services.registry import SERVICES
from tests.unit.test_platform import registered, registered_of, registered_without_servers, without_servers

pytestmark = pytest.mark.xdist_group("tree")
PART = "secret-store"
LOCAL = {name: one for name, one in SERVICES.items() if not one.asked}
"""Services of the local environment."""
ISSUED = [name for name, one in SERVICES.items() if one.database]
"""Services whose logins for PostgreSQL the store issues."""
CACHED = [name for name, one in SERVICES.items() if one.cache]
"""Services whose logins for the cache the store issues."""
SPEAKING = [name for name, one in SERVICES.items() if one.speaks]
"""Services whose pods register logins for NATS in the store."""


def with_store(environment: str, **store: Any) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    return _with_store(environment, json.dumps(store))


@functools.cache
def _with_store(environment: str, store: str) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    return registered_of(without_servers(environment) | {"security": {"secretStore": json.loads(store)}})


def named(resources: tuple[pulumi.runtime.MockResourceArgs, ...], kind: str, name: str = "") -> Any:
    """Inputs of the only resource of a kind; the name is without the environment's prefix."""
    (found,) = [r for r in resources if r.typ.endswith(f":{kind}") and r.name == f"local-{PART}{name}"]
    return found.inputs


def pod() -> dict[str, Any]:
    return named(with_store("local", replicas=1), "StatefulSet")["spec"]["template"]["spec"]


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_it_is_disabled_by_default(environment: str) -> None:
    assert [r.name for r in registered(environment) if PART in r.name] == []


def test_the_rest_of_an_environment_stays_as_it_is() -> None:
    def of(resources: tuple[pulumi.runtime.MockResourceArgs, ...]) -> set[tuple[str, str]]:
        return {(r.typ, r.name) for r in resources}

    more = of(with_store("local", replicas=1)) - of(registered_without_servers("local"))
    gone = {name for _, name in of(registered_without_servers("local")) - of(with_store("local", replicas=1))}
    # Services that have no other password have no Secret.
    assert gone <= {f"local-logins-{service}" for service in (*ISSUED, *CACHED, *SPEAKING)}
    others = {name for _, name in more if not name.startswith(f"local-{PART}")}
    own = {f"local-logins-{SNAPSHOTS_ACCOUNT}", f"local-logins-{PART}"}  # its logins at data servers
    files = {f"local-{service}-files" for service in (*ISSUED, *CACHED, *SPEAKING, "nats")}  # its certificate
    assert others - files == {*own, "local-database-logins"}


def test_the_key_lies_on_a_volume_of_its_own_and_in_no_object() -> None:
    resources = with_store("local", replicas=1)
    claims = named(resources, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert [claim["metadata"]["name"] for claim in claims] == ["data", "seal"]
    secrets = sorted(r.name for r in resources if r.typ.endswith(":Secret") and PART in r.name)
    assert secrets == [f"local-logins-{PART}", f"local-logins-{SNAPSHOTS_ACCOUNT}", f"local-{PART}-certificate"]
    made = [r.name for r in resources if "random" in r.typ and PART in r.name]
    assert sorted(made) == [f"local-logins-{PART}", f"local-logins-{SNAPSHOTS_ACCOUNT}"]


def test_several_servers_share_the_key_of_a_secret() -> None:
    resources = with_store("local", replicas=3, sealSecretName="mine")
    spec = named(resources, "StatefulSet")["spec"]
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["data"]
    secrets = {v["name"]: v["secret"]["secretName"] for v in spec["template"]["spec"]["volumes"] if "secret" in v}
    server = spec["template"]["spec"]["containers"][0]
    mounted = {m["mountPath"]: secrets.get(m["name"]) for m in server["volumeMounts"]}
    assert mounted["/seal"] == "mine"
    assert {"name": "STORE_SEAL_MADE_ELSEWHERE", "value": "yes"} in server["env"]
    settings = named(resources, "ConfigMap", "-files")["data"]
    assert settings["store.hcl"].count("retry_join") == 3
    assert "retry_join" not in settings["first.hcl"]


def test_on_aws_a_key_of_its_own_unseals_it() -> None:
    resources = with_store("prod")
    made = {r.typ for r in resources if PART in r.name and r.typ.startswith("aws:")}
    assert {"aws:kms/key:Key", "aws:iam/role:Role", "aws:eks/podIdentityAssociation:PodIdentityAssociation"} <= made
    (server,) = [r for r in resources if r.typ.endswith(":StatefulSet") and PART in r.name]
    assert [c["metadata"]["name"] for c in server.inputs["spec"]["volumeClaimTemplates"]] == ["data"]
    assert server.inputs["spec"]["replicas"] == 3
    plugin = {"image": "i", "version": "v1", "binary_name": "b", "sha256sum": "c" * 64}
    text = store_settings.store(store_settings.by_kms("eu-central-1", "arn:aws:kms:x", plugin), ["https://a"])
    assert 'plugin "kms" "awskms" {' in text
    assert f'sha256sum = "{"c" * 64}"' in text
    assert 'kms_key_id = "arn:aws:kms:x"' in text
    assert 'seal "static"' not in text


def test_each_container_has_the_token_that_it_needs_and_no_other() -> None:
    server, keeper = pod()["containers"]
    tokens = {v["name"]: v["projected"] for v in pod()["volumes"] if v["name"] in ("account", "identity")}
    assert {m["name"] for m in server["volumeMounts"]} & tokens.keys() == {"account"}
    assert {m["name"] for m in keeper["volumeMounts"]} & tokens.keys() == {"identity"}
    (shown,) = tokens["identity"]["sources"]
    assert shown["serviceAccountToken"]["audience"] == store_rights.AUDIENCE
    rules = named(with_store("local", replicas=1), "ClusterRole", "-reviewer")["rules"]
    assert rules == [{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]


def test_containers_are_restricted_and_a_sealed_server_is_not_started_anew() -> None:
    for container in pod()["containers"]:
        security = container["securityContext"]
        assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"]
        assert security["capabilities"]["drop"] == ["ALL"]
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
    server = pod()["containers"][0]
    assert "sealedcode=204" in server["livenessProbe"]["httpGet"]["path"]
    assert "sealedcode" not in server["readinessProbe"]["httpGet"]["path"]
    assert {p["httpGet"]["scheme"] for n, p in server.items() if n.endswith("Probe")} == {"HTTPS"}


def test_services_and_the_task_reach_it_and_nobody_else() -> None:
    policy = named(with_store("local", replicas=1), "NetworkPolicy")["spec"]
    own, callers, scraped = policy["ingress"]
    names = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in callers["from"]}
    assert names == {*LOCAL, f"{PART}-task", SNAPSHOTS_ACCOUNT, store_names.DATABASE_ACCOUNT, store_names.NATS}
    assert [p["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for p in own["from"]] == [PART]
    assert scraped["ports"] == [{"port": 9102}]


def test_the_isolation_check_tries_its_ports() -> None:
    (check,) = [r for r in with_store("local", replicas=1) if r.name == "local-isolation" and r.typ.endswith(":Job")]
    variables = {v["name"]: v["value"] for v in check.inputs["spec"]["template"]["spec"]["containers"][0]["env"]}
    tried = {host.partition(".")[0]: ports for host, ports in json.loads(variables["TARGETS"]).items()}
    assert tried[PART] == [8200, 8201, 9102]


def test_the_declaration_is_what_the_task_waits_for() -> None:
    resources = with_store("local", replicas=1)
    written = json.loads(named(resources, "ConfigMap", "-content")["data"]["document.json"])
    assert written == store_rights.content(LOCAL.values(), "cogniforge")
    job = named(resources, "Job", "-check")["spec"]["template"]["spec"]
    assert not [volume for volume in job["volumes"] if "secret" in volume]  # and no private key


def test_snapshots_are_saved_on_schedule_and_at_each_change() -> None:
    resources = with_store("local", replicas=1, snapshots={"everyHours": 4, "keepDays": 30})
    schedule = named(resources, "CronJob", "-snapshots")["spec"]
    first = named(resources, "Job", "-snapshots")["spec"]
    assert schedule["schedule"] == "17 */4 * * *"
    pod = first["template"]["spec"]
    later = schedule["jobTemplate"]["spec"]["template"]["spec"]
    assert [one["args"] for one in (*pod["containers"], *later["containers"])] == [["snapshots"], ["snapshots"]]
    given = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert json.loads(given["PROVISION"]) == {"bucket": SNAPSHOTS_ACCOUNT, "by_role": False, "keep_days": 30}
    assert pod["serviceAccountName"] == SNAPSHOTS_ACCOUNT
    secrets = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
    assert secrets == [f"login-{SNAPSHOTS_ACCOUNT}"]  # and no key of the store


def test_the_bucket_of_snapshots_belongs_to_their_login_alone() -> None:
    resources = with_store("local", replicas=1)
    (job,) = [r for r in resources if r.typ.endswith(":Job") and r.name == "local-object-store-provision"]
    given = {one["name"]: one.get("value") for one in job.inputs["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert json.loads(given["PROVISION"])["buckets"][SNAPSHOTS_ACCOUNT] == SNAPSHOTS_ACCOUNT
    login = next(r for r in resources if r.typ.endswith(":Secret") and r.name == f"local-logins-{SNAPSHOTS_ACCOUNT}")
    assert list(login.inputs["stringData"]["value"]) == ["objects"]  # wrapped: it is secret


def test_on_aws_the_schedule_has_a_role_for_its_bucket() -> None:
    resources = with_store("prod")
    (schedule,) = [r for r in resources if r.typ.endswith(":CronJob")]
    pod = schedule.inputs["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert not [volume for volume in pod["volumes"] if "secret" in volume]
    given = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    place = json.loads(given["PROVISION"])
    assert place["by_role"] and place["bucket"] == f"{place['PREFIX']}{SNAPSHOTS_ACCOUNT}"
    buckets = {r.inputs.get("bucket") for r in resources if r.typ == "aws:s3/bucket:Bucket"}
    assert place["bucket"] in buckets


def deployed(resources: tuple[pulumi.runtime.MockResourceArgs, ...], service: str) -> Any:
    """Pod of a service."""
    (found,) = [r for r in resources if r.typ.endswith(":Deployment") and r.inputs["metadata"]["name"] == service]
    return found.inputs["spec"]["template"]["spec"]


def provisioned(resources: tuple[pulumi.runtime.MockResourceArgs, ...]) -> Any:
    """What PostgreSQL's task makes."""
    (found,) = [r for r in resources if r.typ.endswith(":Job") and r.name.endswith("-postgres-provision")]
    variables = {
        one["name"]: one.get("value") for one in found.inputs["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    return json.loads(variables["PROVISION"])


@pytest.mark.parametrize("service", sorted({*ISSUED, *CACHED, *SPEAKING}))
def test_no_secret_and_no_state_holds_an_issued_password_of_a_service(service: str) -> None:
    resources = with_store("local", replicas=1)

    def entries(of: tuple[pulumi.runtime.MockResourceArgs, ...]) -> set[str]:
        """Entries of the Secret of the service's login; none without a Secret."""
        found = [r for r in of if r.typ.endswith(":Secret") and r.name == f"local-logins-{service}"]
        return {entry for one in found for entry in one.inputs["stringData"]["value"]}

    systems = (("postgres", ISSUED), ("cache", CACHED), ("nats", SPEAKING))
    issued = {system for system, services in systems if service in services}
    assert entries(registered_without_servers("local")) - entries(resources) == issued
    text = json.dumps(deployed(resources, service), default=str)
    before = json.dumps(deployed(registered_without_servers("local"), service), default=str)
    for system in issued:
        assert f"SERVICE_{system.upper()}_PASSWORD" not in text
        assert f"SERVICE_{system.upper()}_PASSWORD" in before


def test_the_cache_knows_the_platforms_users_only() -> None:
    resources = with_store("local", replicas=1)
    (files,) = [r for r in resources if r.typ.endswith(":Secret") and r.name == "local-cache-files"]
    users = [line.split()[1] for line in files.inputs["stringData"]["value"]["users.acl"].splitlines()]
    assert users == ["default", "cache", PART]
    (check,) = [r for r in resources if r.typ.endswith(":Job") and r.name == "local-cache-check"]
    given = {one["name"]: one.get("value") for one in check.inputs["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert given["CHECK_LOGINS"] == ""
    assert json.loads(given["CHECK_ISSUED"])["rules"].keys() == set(CACHED)


def nats_pod() -> tuple[dict[str, Any], dict[str, Any]]:
    """Spec of NATS' pods with the store, and the texts of its secret files."""
    resources = with_store("local", replicas=1)
    (files,) = [r for r in resources if r.typ.endswith(":Secret") and r.name == "local-nats-files"]
    (server,) = [r for r in resources if r.typ.endswith(":StatefulSet") and r.name == "local-nats"]
    return server.inputs["spec"]["template"]["spec"], files.inputs["stringData"]["value"]


def test_nats_knows_no_user_of_a_service_and_asks_the_process_beside_it() -> None:
    _, files = nats_pod()
    conf, declared = json.loads(files["nats.conf"]), json.loads(files["logins.json"])
    users = {user["user"] for one in conf["accounts"].values() for user in one.get("users", ())}
    assert users == {"nats", "logins"}
    asks = conf["authorization"]["auth_callout"]
    assert {*asks["auth_users"]} == users
    assert asks["issuer"] == declared["issuer"]
    assert declared["accounts"].keys() == set(SPEAKING)
    resources = registered_without_servers("local")
    (plain,) = [r for r in resources if r.typ.endswith(":Secret") and r.name == "local-nats-files"]
    before = json.loads(plain.inputs["stringData"]["value"]["nats.conf"])
    assert "authorization" not in before
    for service, found in declared["accounts"].items():
        (user,) = before["accounts"][found["account"]]["users"]
        assert user["user"] == service
        assert user["permissions"] == found["permissions"]


def test_only_the_process_beside_nats_has_a_token_for_the_store() -> None:
    spec, _ = nats_pod()
    having = [one["name"] for one in spec["containers"] if "identity" in {m["name"] for m in one["volumeMounts"]}]
    assert having == ["logins"]
    content = json.loads(named(with_store("local", replicas=1), "ConfigMap", "-content")["data"]["document.json"])
    assert content["roles"]["platform.nats"]["bound_service_account_names"] == ["nats"]
    policy = named(with_store("local", replicas=1), "NetworkPolicy")["spec"]["ingress"]
    assert '"nats"' in json.dumps(policy)


def test_with_rds_only_the_cache_issues_logins() -> None:
    resources = with_store("prod")
    (job,) = [r for r in resources if r.typ.endswith(":Job") and r.name == "prod-database-logins"]
    given = {one["name"]: one.get("value") for one in job.inputs["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert "CACHE_URL" in given and "PGHOST" not in given
    content = json.loads(next(r for r in resources if r.name == f"prod-{PART}-content").inputs["data"]["document.json"])
    assert content["databases"].keys() == {f"{service}.cache" for service in CACHED}
    rules = json.loads(content["policies"][store_rights.DATABASE_TASK])["path"]
    assert [path for path in rules if path.startswith("database/")] == ["database/config/cache"]


@pytest.mark.parametrize("service", ISSUED)
def test_a_service_with_a_database_gets_a_token_for_the_store_and_its_address(service: str) -> None:
    pod = deployed(with_store("local", replicas=1), service)
    for container in (*pod["initContainers"], *pod["containers"]):
        given = {one["name"]: one.get("value") for one in container["env"]}
        assert given["SERVICE_STORE_URL"].startswith("https://secret-store.")
        assert given["SERVICE_STORE_AUTHORITY"] == f"/etc/{service}/secret-store-ca.crt"
    (tokens,) = [v["projected"]["sources"] for v in pod["volumes"] if v["name"] == "identity"]
    shown = [one["serviceAccountToken"] for one in tokens if "serviceAccountToken" in one]
    assert {"path": "tokens/secret-store", "audience": PART} in [
        {key: one.get(key) for key in ("path", "audience")} for one in shown
    ]


def test_owners_of_databases_do_not_log_in_and_other_parts_keep_their_logins() -> None:
    asked = provisioned(with_store("local", replicas=1))
    assert asked["issuer"] == PART
    assert {one["name"] for one in asked["databases"] if one.get("issued")} == set(ISSUED)
    assert "issuer" not in provisioned(registered_without_servers("local"))


def test_logins_are_renewed_for_as_long_as_the_configuration_says() -> None:
    resources = with_store("local", replicas=1, loginHours=2, cacheLoginHours=3)
    content = json.loads(named(resources, "ConfigMap", "-content")["data"]["document.json"])
    found = {(one["db_name"], one["default_ttl"], one["max_ttl"]) for one in content["databases"].values()}
    assert found == {("postgres", 3600, 7200), ("cache", 3600, 10_800)}


def test_only_tasks_have_the_stores_own_login() -> None:
    resources = with_store("local", replicas=1)
    holding = {r.name for r in resources if f'login-{PART}"' in json.dumps(r.inputs, default=str)}
    tasks = {"local-postgres-provision", "local-cache-check"}
    assert holding == {f"local-logins-{PART}", "local-database-logins", *tasks}
    (job,) = [r for r in resources if r.typ.endswith(":Job") and r.name == "local-database-logins"]
    assert job.inputs["spec"]["template"]["spec"]["serviceAccountName"] == store_names.DATABASE_ACCOUNT


def test_with_rds_and_for_services_of_ones_own_passwords_stay() -> None:
    assert "issuer" not in provisioned(with_store("prod"))
    text = json.dumps(deployed(with_store("prod"), ISSUED[0]), default=str)
    assert "SERVICE_POSTGRES_PASSWORD" in text


def test_without_an_object_store_there_are_no_snapshots() -> None:
    file = without_servers("local")
    data = {key: value for key, value in file["data"].items() if key not in ("objectStore",)}
    services = {key: value for key, value in file.get("services", {}).items() if key != "retriever"}
    config = file | {"data": data, "services": services, "security": {"secretStore": {"replicas": 1}}}
    assert not [r for r in registered_of(config) if SNAPSHOTS_ACCOUNT in r.name]


def test_its_alerts_are_there_only_with_it() -> None:
    def alerting(*parts: str) -> set[str]:
        rules = alerts.rules("space", frozenset(parts), ())["groups"][0]["rules"]
        return {rule["alert"] for rule in rules if rule["alert"].startswith("SecretStore")}

    assert alerting() == set()
    assert {"SecretStoreSealed", "SecretStoreDown", "SecretStoreNotConfigured"} <= alerting(PART)


def audited(**audit: Any) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    """An environment with a store, and this section of Audit."""
    file = without_servers("local")
    services = {**file["services"], "audit": audit}
    return registered_of(file | {"services": services, "security": {"secretStore": {"replicas": 1}}})


@pytest.mark.parametrize("held", [True, False])
def test_audit_has_keys_in_the_store_and_a_secret_only_where_it_is_asked_for(held: bool) -> None:
    resources = audited(secret=held)
    named = [(r, r.inputs["metadata"].get("name")) for r in resources if r.typ.startswith("kubernetes:")]
    secrets = [r for r, name in named if r.typ.endswith(":Secret") and name == "login-audit-keys"]
    passwords = [r for r in resources if r.typ.endswith(":RandomPassword") and "audit-keys" in r.name]
    assert (len(secrets), len(passwords)) == (int(held), int(held))
    (pod,) = [
        r.inputs["spec"]["template"]["spec"] for r, name in named if r.typ.endswith(":Deployment") and name == "audit"
    ]
    variables = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert "SERVICE_STORE_URL" in variables
    assert ("SERVICE_SIGNING_SECRET" in str(pod)) == held


def test_without_a_store_audit_needs_its_secret() -> None:
    file = without_servers("local")
    with pytest.raises(ConfigError) as error:
        parse(file | {"services": {**file["services"], "audit": {"secret": False}}})
    (problem,) = error.value.problems
    assert problem.path.endswith("services.audit.secret") and "security.secretStore" in problem.fix


NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
RECORDS = st.lists(
    st.builds(
        lambda name, keys, families: ServiceRecord(name, store_keys=keys, store_key_families=tuple(families)),
        NAMES,
        st.dictionaries(NAMES, st.sampled_from(KeyUse), max_size=3),
        st.sets(NAMES, max_size=2),
    ),
    min_size=2,
    max_size=6,
    unique_by=lambda record: record.name,
)


def matches(rule: str, path: str) -> bool:
    """OpenBao's rule matching: `*` at the end matches any suffix, `+` one segment."""
    pattern = re.escape(rule).replace(r"\+", "[^/]+")
    pattern = pattern.removesuffix(r"\*") + ".*" if rule.endswith("*") else pattern
    return re.fullmatch(pattern, path) is not None


@given(RECORDS)
def test_no_rule_of_a_service_reaches_what_another_owns(records: list[ServiceRecord]) -> None:
    content = store_rights.content(records, "space")
    owned = {
        record.name: [
            f"kv/data/{record.name}/any",
            *(f"transit/{act}/{record.name}.{key}" for key in record.store_keys for act in ("sign", "decrypt", "keys")),
            *(
                f"{store_rights.family(record.name, one)}/{act}/any"
                for one in record.store_key_families
                for act in ("keys", "encrypt", "decrypt")
            ),
        ]
        for record in records
    }
    for record in records:
        rules = json.loads(content["policies"][record.name])["path"]
        for other, paths in owned.items():
            reached = {path for path in paths if any(matches(rule, path) for rule in rules)}
            assert not reached or other == record.name
        assert any(matches(rule, f"kv/data/{record.name}/any") for rule in rules)


@given(RECORDS)
def test_a_role_has_one_account_and_the_policy_of_its_name(records: list[ServiceRecord]) -> None:
    content = store_rights.content(records, "space")
    assert content["roles"].keys() == content["policies"].keys()
    accounts = [account for role in content["roles"].values() for account in role["bound_service_account_names"]]
    assert len(accounts) == len(set(accounts)) == len(content["roles"])
    for name, role in content["roles"].items():
        assert (role["token_policies"], role["token_no_default_policy"]) == ([name], True)
        assert role["bound_service_account_namespaces"] == ["space"]
    families = {store_rights.family(r.name, one) for r in records for one in r.store_key_families}
    assert content["engines"].keys() - {"kv", "transit"} == families
    assert content["keys"] == {f"{r.name}.{key}": use for r in records for key, use in r.store_keys.items()}


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(), max_size=4))
def test_any_text_is_one_string_of_the_configuration(data: dict[str, str]) -> None:
    text = store_settings.first(store_settings.by_key(), {"one": ("sys/any", data)})
    for key, value in data.items():
        assert f"{key} = {json.dumps(value)}\n" in text
    assert text.count("\n") == len(text.splitlines())
