"""Settings of pods: accepted values, their effect, and settings that cannot be overridden."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from components.base import PlatformComponent
from components.base import labels as platform_labels
from components.config.base import LabelKey, LabelValue, Section, VariableName
from components.config.data import Data
from components.config.parse import parse
from components.config.pod import RESERVED, KafkaPod, Pod, Toleration
from components.config.problems import ConfigError
from components.mesh import entrance, kong_gateway
from components.mesh.gateway_inputs import KongGatewayInputs, intent_args
from components.pods import PodArgs, customization, customized, resized
from tests.unit.test_platform import registered, registered_of, stack_file

pytestmark = pytest.mark.xdist_group("tree")

SETTINGS: dict[str, Any] = {
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "value": "search", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "values": ["a"]}]}]
            }
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 1,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"a_b": "c"}},
                    },
                }
            ]
        },
    },
    "priorityClassName": "high",
    "labels": {"example.com/cost_center": "42"},
    "annotations": {"example.com/note": "anything: at all"},
    "environment": {"EXTRA_SETTING": "on"},
}
TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}


def sections(section: Section, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Section]]:
    """Every section of a configuration, with its path in the stack file."""
    yield path, section
    for name, field in type(section).model_fields.items():
        value: Any = getattr(section, name)
        for key, one in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
            if isinstance(one, Section):
                at: tuple[str | int, ...] = (*path, field.alias or name, *(() if key is None else (key,)))
                yield from sections(one, at)


def with_settings(environment: str) -> dict[str, Any]:
    """A stack file in which every workload has all settings of its section."""
    data = copy.deepcopy(stack_file(environment))
    for path, section in list(sections(parse(data))):
        if "pod" not in type(section).model_fields or getattr(section, "external", None):
            continue
        known = {f.alias: f for f in type(section.pod).model_fields.values()}
        at: Any = data
        for part in path:
            at = at[part] if isinstance(part, int) else at.setdefault(part, {})
        managed = {"rds", "msk", "s3"} & at.keys()
        at["pod"] = {n: v for n, v in SETTINGS.items() if n in known and not (managed and n == "environment")}
        if environment == "local" and "sidecars" in known and path[0] == "data":
            containers = known["sidecars"].annotation.model_fields
            resources = {"cpu": "33m", "memory": "77Mi"}
            at["pod"]["sidecars"] = {name: resources for name in containers if name != "zone"}
    return data


@functools.cache
def with_components(
    environment: str,
) -> tuple[tuple[pulumi.runtime.MockResourceArgs, ...], tuple[PlatformComponent, ...]]:
    """(resources with all settings, components that registered them)."""
    made: list[PlatformComponent] = []
    original = PlatformComponent.finish

    def finish(self: PlatformComponent, *args: Any, **outputs: Any) -> None:
        made.append(self)
        original(self, *args, **outputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlatformComponent, "finish", finish)
        return registered_of(with_settings(environment)), tuple(made)


def rendered(environment: str) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    return with_components(environment)[0]


PLACED_ONLY = ("jaeger", "keycloak", "log-store", "opa", "prometheus", "secret-store", "telemetry-gateway")
WORKLOADS = ("Deployment", "StatefulSet", "Job")


def templates(environment: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, kind and pod template of every workload."""
    found = [(r.name, r.typ.rpartition(":")[2], r.inputs) for r in rendered(environment)]
    return [(name, kind, inputs["spec"]["template"]) for name, kind, inputs in found if kind in WORKLOADS]


@pytest.mark.parametrize("environment", ["local", "prod"])
def test_every_pod_has_the_settings_of_its_section(environment: str) -> None:
    found = templates(environment)
    assert {kind for _, kind, _ in found} == set(WORKLOADS)
    for name, kind, template in found:
        pod = template["spec"]
        assert pod["nodeSelector"] == {"disk": "ssd"}, name
        assert pod["tolerations"] == [
            {"key": "dedicated", "operator": "Equal", "value": "search", "effect": "NoSchedule"}
        ], name
        assert pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] == {
            "nodeSelectorTerms": [TERM]
        }, name
        assert pod["priorityClassName"] == "high", name
        assert template["metadata"]["labels"]["example.com/cost_center"] == "42", name
        assert template["metadata"]["annotations"]["example.com/note"] == "anything: at all", name
        away = pod["affinity"].get("podAntiAffinity")
        assert (away is None) == (kind == "Job"), name


@pytest.mark.parametrize("environment", ["local", "prod"])
def test_the_main_container_alone_has_the_extra_variables(environment: str) -> None:
    for name, kind, template in templates(environment):
        every = [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]
        having = [c["name"] for c in every if {"name": "EXTRA_SETTING", "value": "on"} in c.get("env", [])]
        if kind == "Job" or (name == f"{environment}-postgres" and having == []):
            assert having == [], name
            continue
        part = name.removeprefix(f"{environment}-")
        if part in PLACED_ONLY:
            assert having == [], f"{name}: its section only says where pods run"
            continue
        assert having == [{"gateway": "envoy"}.get(part, part)], name


def plain(container: dict[str, Any]) -> list[tuple[str, str]]:
    """Variables without the additional one, and without the fingerprint of the configuration."""
    changed = ("EXTRA_SETTING", "CHECK_RELEASE", "RELEASE")
    found = [variable for variable in container.get("env", []) if variable["name"] not in changed]
    return [(one["name"], json.dumps(one, default=lambda value: type(value).__name__)) for one in found]


@pytest.mark.parametrize("environment", ["local", "prod"])
def test_settings_take_nothing_from_the_platforms_own(environment: str) -> None:
    before = {r.name: r.inputs for r in registered(environment) if r.typ.rpartition(":")[2] in WORKLOADS}
    for name, _, template in templates(environment):
        own = before[name]["spec"]["template"]
        for kind in ("labels", "annotations"):
            assert (own["metadata"].get(kind) or {}).items() <= template["metadata"][kind].items(), name
        for container, without in zip(template["spec"]["containers"], own["spec"]["containers"], strict=True):
            assert plain(container) == plain(without), name
        assert set(own["spec"]) <= set(template["spec"]), name


def test_a_model_on_gpus_has_the_settings_and_keeps_its_pool() -> None:
    served = [r.inputs["spec"]["predictor"] for r in rendered("prod") if r.typ.endswith(":InferenceService")]
    assert served
    for predictor in served:
        assert predictor["nodeSelector"].keys() == {"cogniforge.dev/gpu-pool", "disk"}
        assert [t["key"] for t in predictor["tolerations"]] == ["nvidia.com/gpu", "dedicated"]
        assert predictor["priorityClassName"] == "high"
        assert predictor["labels"] == {"example.com/cost_center": "42"}
        assert predictor["annotations"] == {"example.com/note": "anything: at all"}
        assert predictor["model"]["env"] == [{"name": "EXTRA_SETTING", "value": "on"}]
        preferred = predictor["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert preferred[0]["podAffinityTerm"]["labelSelector"]["matchLabels"] == {"a_b": "c"}


def kong_values(settings: dict[str, Any]) -> dict[str, Any]:
    data = stack_file("prod")
    data["gateway"] |= {"engine": "kong", "pod": settings}
    config = parse(data)
    asyncio.set_event_loop(asyncio.new_event_loop())  # for outputs, outside of a program
    args: Any = {"namespace": "space", "replicas": 2, "cpu": "1", "memory": "1Gi", "keys": {}}
    more: Any = {"certificate_secret": "tls", **customized(config.gateway.pod, "gateway.pod")}
    intent = entrance.intent(config)
    return kong_gateway.values(intent, KongGatewayInputs.model_validate({**intent_args(intent), **args, **more}))


def test_kong_and_its_controller_have_the_settings() -> None:
    own = {"EXTRA_SETTING": "on", "KONG_UPSTREAM_KEEPALIVE_POOL_SIZE": "64"}
    values = kong_values({**SETTINGS, "environment": own, "sidecars": {"controller": {"memory": "1Gi"}}})
    for part in (values["gateway"], values["controller"]):
        assert part["nodeSelector"] == {"disk": "ssd"}
        assert part["tolerations"][0]["key"] == "dedicated"
        assert part["priorityClassName"] == "high"
        assert part["podLabels"]["example.com/cost_center"] == "42"
        assert part["podAnnotations"] == {"example.com/note": "anything: at all"}
        assert part["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert values["gateway"]["podLabels"]["app.kubernetes.io/part-of"] == "cogniforge"
    assert values["gateway"]["customEnv"] == {"EXTRA_SETTING": "on"}
    assert values["gateway"]["env"]["upstream_keepalive_pool_size"] == "64"
    assert "customEnv" not in values["controller"]
    resources = values["controller"]["ingressController"]["resources"]
    assert resources == {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}


def test_kong_refuses_its_own_variables_and_names_that_its_chart_would_change() -> None:
    with pytest.raises(ConfigError) as error:
        kong_values({"environment": {"KONG_LOG_LEVEL": "debug", "lower": "x"}, "labels": {"app": "mine"}})
    assert {p.path: p.fix for p in error.value.problems} == {
        "gateway.pod.labels.app": "remove it",
        "gateway.pod.environment.KONG_LOG_LEVEL": "remove it",
        "gateway.pod.environment.lower": "rename it to LOWER",
    }


def test_the_sidecars_of_a_section_are_the_containers_that_there_are() -> None:
    """The local environment has one replica of each server, so no server has to find its zone."""
    found = {
        name.removeprefix("local-"): {c["name"]: c["resources"] for c in template["spec"]["containers"]}
        for name, kind, template in templates("local")
        if kind == "StatefulSet"
    }
    data = parse(stack_file("local")).data
    checked = 0
    for name, field in Data.model_fields.items():
        fields = getattr(type(getattr(data, name)), "model_fields", {})
        if "pod" not in fields or "sidecars" not in fields["pod"].annotation.model_fields:
            continue
        part = name.replace("_", "-")
        named = set(getattr(data, name).pod.sidecars.model_fields) if field else set()
        assert {one: found[part][one] for one in named & set(found[part])} == {
            one: {"requests": {"cpu": "33m", "memory": "77Mi"}, "limits": {"memory": "77Mi"}}
            for one in named & set(found[part])
        }
        assert (named | {part}) - {"zone"} == set(found[part]), part
        checked += 1
    assert checked == 6


def test_a_field_that_is_left_out_stays_as_the_platform_sets_it() -> None:
    own = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}
    assert resized(own, {"cpu": "70m"}) == {"requests": {"cpu": "70m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}
    assert resized(own, {"memory": "1Gi"}) == {"requests": {"cpu": "50m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    assert resized(own, {}) == own


def test_an_empty_section_is_no_section() -> None:
    data = stack_file("local")
    for section in (data["gateway"], data["data"]["postgres"], data["models"][0]):
        section["pod"] = {}
    assert parse(data) == parse(stack_file("local"))
    assert '"pod"' not in parse(data).model_dump_json(by_alias=True)
    assert customized(Pod(), "services.router.pod") == {}


def test_a_variable_of_the_platform_is_refused_by_name_with_its_place_in_the_stack_file() -> None:
    data = stack_file("local")
    own = {"SERVICE_PORT": "1", "SERVICE_OWN": "x", "SERVICE_LOG_LEVEL": "y"}
    data["services"]["router"] = {"pod": {"environment": own}}
    with pytest.raises(ConfigError) as error:
        registered_of(data)
    assert [(p.path, p.value, p.limit) for p in error.value.problems] == [
        (
            "services.router.pod.environment.SERVICE_LOG_LEVEL",
            '"y"',
            "the platform sets the variable SERVICE_LOG_LEVEL itself",
        ),
        ("services.router.pod.environment.SERVICE_PORT", '"1"', "the platform sets the variable SERVICE_PORT itself"),
    ]


def test_a_container_that_the_pod_does_not_have_is_refused_with_those_that_it_has() -> None:
    pod = KafkaPod.model_validate({"sidecars": {"zone": {"memory": "128Mi"}}})
    made = customization(customized(pod, "data.kafka.pod").get("customize"))
    alone: Any = {"metadata": {}, "spec": {"containers": [{"name": "kafka"}]}}
    with pytest.raises(ConfigError, match=r"data\.kafka\.pod\.sidecars\.zone.*\n.*none: the pod has one container"):
        made.template(alone, "kafka")


KEY, VALUE, VARIABLE = TypeAdapter(LabelKey), TypeAdapter(LabelValue), TypeAdapter(VariableName)


def accepted(adapter: TypeAdapter[Any], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True


def _name(text: str) -> bool:
    """Kubernetes' label values: at most 63 characters, alphanumeric at both ends, with dashes, underscores, dots."""
    ends = text[:1] + text[-1:]
    return 0 < len(text) <= 63 and ends.isascii() and ends.isalnum() and not set(text) - ALPHABET


ALPHABET = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def _subdomain(text: str) -> bool:
    labels = text.split(".")
    return (
        len(text) <= 253
        and all(
            one == one.lower()
            and one.isascii()
            and one.replace("-", "a").isalnum()
            and one[0] != "-"
            and one[-1] != "-"
            for one in labels
            if one
        )
        and all(labels)
    )


near_keys = st.text("aZ9-_./", max_size=12) | st.from_regex(r"[a-z0-9.-]{0,20}/?[A-Za-z0-9_.-]{0,70}", fullmatch=True)


@given(st.text(max_size=80) | near_keys)
def test_a_key_is_accepted_exactly_where_kubernetes_accepts_it(text: str) -> None:
    prefix, slash, name = text.rpartition("/")
    assert accepted(KEY, text) == (_name(name) and (not slash or _subdomain(prefix)))


@given(st.text(max_size=80) | st.text("aZ9-_.", max_size=70))
def test_a_value_of_a_label_is_accepted_exactly_where_kubernetes_accepts_it(text: str) -> None:
    assert accepted(VALUE, text) == (text == "" or _name(text))


@given(st.text(max_size=20) | st.text("aZ9-_.=", max_size=20))
def test_a_variable_is_accepted_where_kubernetes_accepts_it(text: str) -> None:
    known = re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*", text) is not None
    assert accepted(VARIABLE, text) == known


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "key": st.sampled_from(["dedicated", "nvidia.com/gpu"]),
            "operator": st.sampled_from(["Equal", "Exists"]),
            "value": st.sampled_from(["", "search"]),
            "effect": st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"]),
            "tolerationSeconds": st.integers(0, 10),
        },
    )
)
def test_a_toleration_is_accepted_exactly_where_kubernetes_accepts_it(toleration: dict[str, Any]) -> None:
    operator = toleration.get("operator", "Equal")
    valid = (
        ("key" in toleration or operator == "Exists")
        and not (operator == "Exists" and toleration.get("value"))
        and ("tolerationSeconds" not in toleration or toleration.get("effect") == "NoExecute")
    )
    assert accepted(TypeAdapter(Toleration), toleration) == valid


@given(st.sampled_from(RESERVED), st.sampled_from(["", "sub."]), st.sampled_from(["labels", "annotations"]))
def test_keys_of_the_platform_are_refused(prefix: str, below: str, kind: str) -> None:
    with pytest.raises(ConfigError, match="these are the platform's"):
        customization({kind: {f"{below}{prefix}/name": "mine"}})


def test_the_platforms_labels_are_among_the_keys_that_are_refused() -> None:
    assert all(key.partition("/")[0] in RESERVED for key in platform_labels("part", "area"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*SETTINGS, "sidecars", "node_selector", "surprise"]), json_values, max_size=4))
def test_any_input_is_settings_or_an_error_with_limit_and_fix(given_settings: dict[str, Any]) -> None:
    try:
        found = customization(given_settings)
    except ConfigError as error:
        assert all(p.path.startswith("customize") and p.limit and p.fix for p in error.problems)
    else:
        assert isinstance(found.settings, Pod)


def test_all_mistakes_of_a_section_are_reported_at_once_with_path_value_limit_and_fix() -> None:
    data = stack_file("local")
    data["owner"] = ""
    data["gateway"]["port"] = 80
    data["services"].setdefault("router", {})["pod"] = {
        "labels": {"-bad": "x", "example.com/team": "a b"},
        "tolerations": [{"key": "a", "operator": "exists"}],
        "nodeselector": {},
        "environment": {"1A": "x"},
    }
    data["data"]["postgres"]["pod"] = {"sidecars": {"pol": {}, "backups": {"memori": "1Gi"}}}
    with pytest.raises(ConfigError) as error:
        parse(data)
    found = {p.path: p for p in error.value.problems}
    at = "services.router.pod"
    assert set(found) == {
        "owner",
        "gateway.port",
        f"{at}.labels.-bad",
        f'{at}.labels["example.com/team"]',
        f"{at}.tolerations[0].operator",
        f"{at}.nodeselector",
        f"{at}.environment.1A",
        "data.postgres.pod.sidecars.pol",
        "data.postgres.pod.sidecars.backups.memori",
    }
    assert found[f"{at}.labels.-bad"].value == '"-bad"'
    assert found[f"{at}.nodeselector"].limit.startswith("one of nodeSelector, ")
    assert found["data.postgres.pod.sidecars.pol"].limit == "one of pool, backups, metrics"
    assert found["data.postgres.pod.sidecars.backups.memori"].fix == 'did you mean "memory"?'


def test_an_unknown_key_of_customize_is_refused_with_the_nearest_first_in_pythons_spelling() -> None:
    wanted: Any = {"node_selectors": {}, "sidecars": {"pool": {"memori": "1Gi"}}, "node_selector": {"-": "x"}}
    with pytest.raises(ConfigError) as error:
        customization(wanted)
    found = {p.path: (p.limit, p.fix) for p in error.value.problems}
    limit, fix = found["customize.node_selectors"]
    assert limit.startswith("one of node_selector, ")
    assert fix == 'did you mean "node_selector"?'
    assert found["customize.sidecars.pool.memori"] == ("one of memory, cpu", 'did you mean "memory"?')
    assert "customize.node_selector.-" in found


def test_customize_takes_both_spellings_and_values_that_are_known_later() -> None:
    later = pulumi.Output.from_input("later")
    args: PodArgs = {
        "labels": {"team": later, "plain": "yes"},
        "priority_class_name": later,
        "node_selector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
    }
    template = {"metadata": {"labels": {"own": "1"}}, "spec": {"containers": [{"name": "main"}]}}
    made = customization(args).template(template, "main")
    assert made["metadata"]["labels"] == {"own": "1", "team": later, "plain": "yes"}
    assert made["spec"]["priority_class_name"] is later
    assert made["spec"]["tolerations"] == [{"key": "a", "operator": "Exists"}]
    in_camel: Any = {"nodeSelector": {"disk": "ssd"}, "priorityClassName": later}
    assert customization(in_camel).values(camel=True) == in_camel


def test_customize_cannot_replace_the_components_own_settings() -> None:
    template = {
        "metadata": {"labels": {"own": "1"}, "annotations": {"note": "1"}},
        "spec": {
            "node_selector": {"pool": "a"},
            "containers": [{"name": "main", "env": [{"name": "A", "value": "1"}]}],
        },
    }
    args: PodArgs = {
        "labels": {"own": "2"},
        "annotations": {"note": "2"},
        "node_selector": {"pool": "b"},
        "environment": {"A": "2", "B": "3"},
        "sidecars": {"none": {"cpu": "20m"}},
    }
    with pytest.raises(ConfigError) as error:
        customization(args).template(template, "main")
    assert {p.path for p in error.value.problems} == {
        "customize.labels.own",
        "customize.annotations.note",
        "customize.node_selector.pool",
        "customize.environment.A",
        "customize.sidecars.none",
    }
