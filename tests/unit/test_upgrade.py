"""Upgrade verdicts: configuration, versions, resources; and the comment with the verdict."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import engine, preview, upgrade
from cli import stack as stacks
from components import catalogue, event_schemas, versions
from components.config.base import Change
from components.config.changes import changes
from components.config.parse import parse
from components.transitions import Risk, Transition
from tests.golden import assert_golden
from tests.stack_files import stack_file

TREE = "urn:pulumi:prod::cogniforge::cogniforge:platform:Platform"


def stack(name: str = "prod") -> dict[str, Any]:
    return stack_file(name)


def differences(edit: Any, name: str = "prod") -> dict[str, Change]:
    after = copy.deepcopy(stack(name))
    edit(after)
    return {c.path: c.mark for c in changes(parse(stack(name)), parse(after))}


def test_no_difference_is_found_between_equal_configurations() -> None:
    assert differences(lambda c: None) == {}


def test_a_moved_entry_of_a_list_is_no_difference() -> None:
    assert differences(lambda c: c["cluster"]["eks"]["nodePools"].reverse()) == {}


def test_a_field_has_its_own_mark_not_that_of_its_section() -> None:
    found = differences(lambda c: c["cluster"]["eks"]["nodePools"][0].update(maxNodes=9))
    assert found == {"cluster.eks.nodePools[system].maxNodes": Change.SAFE}


def test_an_immutable_field_is_found() -> None:
    found = differences(lambda c: c["cluster"]["eks"].update(vpcCidr="10.99.0.0/16"))
    assert found == {"cluster.eks.vpcCidr": Change.IMMUTABLE}


def test_a_new_model_is_safe() -> None:
    assert differences(lambda c: c["models"].append({"name": "new", "replicas": 2})) == {"models[new]": Change.SAFE}


def test_removing_a_model_is_disruptive() -> None:
    assert differences(lambda c: c["models"].pop()) == {"models[llama-3.1-8b]": Change.DISRUPTIVE}


@pytest.mark.parametrize(
    ("before", "after", "risk"),
    [
        ("1.2.3", "1.2.4", Risk.SAFE),
        ("v1.2.3", "v1.3.0", Risk.MANUAL),
        ("1.2.3", "2.0.0", Risk.BLOCKED),
        ("1.2.3", "1.2.2", Risk.BLOCKED),
        ("v1.3.0", "v1.2.9", Risk.BLOCKED),
        ("nightly", "1.0.0", Risk.MANUAL),
    ],
)
def test_an_untried_move_is_judged_by_its_size(before: str, after: str, risk: Risk) -> None:
    assert versions.move("part", before, after).risk is risk


def test_a_tried_move_is_judged_by_its_record() -> None:
    record = Transition("1.2", "2.0", Risk.SAFE, "tried in dev")
    assert versions.move("part", "1.2.9", "2.0.0", [record]).risk is Risk.SAFE
    assert versions.move("part", "1.20.9", "2.0.0", [record]).risk is Risk.BLOCKED


@given(st.integers(20, 40), st.integers(20, 40))
def test_kubernetes_is_upgraded_by_one_minor_version_and_never_downgraded(before: int, after: int) -> None:
    blocked = versions.kubernetes(f"1.{before}", f"1.{after}").risk is Risk.BLOCKED
    assert blocked == (after - before not in (0, 1))


def test_versions_name_every_image_and_chart() -> None:
    assert {"platform", "image router", "chart istiod", "chart kserve"} <= catalogue.versions().keys()


def verdict(edit: Any) -> upgrade.Verdict:
    before = {"config": copy.deepcopy(stack()), "versions": catalogue.versions()}
    edit(before)
    return upgrade.Verdict("prod", True, upgrade.definition_findings(before, parse(stack())))


def test_the_same_definition_is_safe() -> None:
    assert verdict(lambda d: None).findings == []


def test_another_region_is_blocked() -> None:
    found = verdict(lambda d: d["config"]["cluster"]["eks"].update(region="us-west-2"))
    assert found.blocked
    assert [f.what for f in found.findings] == ["cluster.eks.region: us-west-2 -> us-east-1"]


def test_a_skipped_kubernetes_version_is_blocked_with_the_next_step() -> None:
    found = verdict(lambda d: d["config"]["cluster"]["eks"].update(version="1.32"))
    assert found.blocked
    assert "go to 1.33 first" in found.findings[0].todo


def test_a_definition_that_cannot_be_read_is_for_a_person() -> None:
    found = verdict(lambda d: d["config"].update(unknown="field"))
    assert found.risk is Risk.MANUAL


def test_a_disruptive_field_wants_a_quiet_hour() -> None:
    found = verdict(lambda d: d["config"]["gateway"].update(port=8443))
    assert found.risk is Risk.MANUAL
    assert "little traffic" in found.findings[0].todo


def test_the_cost_of_more_gpu_nodes_is_shown() -> None:
    before = {"config": copy.deepcopy(stack())}
    before["config"]["cluster"]["gpuPools"][0]["maxNodes"] = 2
    text = upgrade.cost_change(before, parse(stack()))
    pools = parse(stack()).cluster.gpu_pools
    most = [sum(p.node_usd * n for p, n in zip(pools, counts, strict=True)) for counts in ((3, 8), (2, 8))]
    assert f"to {most[0]:.2f} USD per hour; before: " in text
    assert text.endswith(f"to {most[1]:.2f}")


def step(operation: str, type_: str) -> preview.Step:
    return preview.Step(operation, type_, "it", "EksCluster", ("vpcConfig",), ("vpcConfig",))


@pytest.mark.parametrize("operation", ["replace", "delete"])
@pytest.mark.parametrize(
    "type_",
    [
        "aws:eks/cluster:Cluster",
        "aws:kms/key:Key",
        "aws:rds/instance:Instance",
        "aws:s3/bucketV2:BucketV2",
        "kubernetes:core/v1:PersistentVolumeClaim",
        "kubernetes:apps/v1:StatefulSet",
        "kubernetes:core/v1:Namespace",
    ],
)
def test_resources_with_data_are_neither_replaced_nor_deleted(operation: str, type_: str) -> None:
    (found,) = upgrade.step_findings([step(operation, type_)])
    assert found.risk is Risk.BLOCKED


def test_another_replacement_is_for_a_quiet_hour() -> None:
    (found,) = upgrade.step_findings([step("replace", "kubernetes:apps/v1:Deployment")])
    assert found.risk is Risk.MANUAL


def test_a_change_in_place_is_safe() -> None:
    (found,) = upgrade.step_findings([step("update", "aws:eks/cluster:Cluster")])
    assert found.risk is Risk.SAFE


def event(operation: str, chain: str, name: str, **metadata: Any) -> dict[str, Any]:
    return {"resourcePreEvent": {"metadata": {"op": operation, "urn": f"{TREE}${chain}::{name}", **metadata}}}


EVENTS = (
    event("same", "cogniforge:mesh:Gateway$kubernetes:core/v1:Service", "prod-gateway"),
    event("create", "cogniforge:ai:AiService$kubernetes:apps/v1:Deployment", "prod-router"),
    event("update", "cogniforge:mesh:Gateway$kubernetes:apps/v1:Deployment", "prod-gateway", diffs=["spec"]),
    event(
        "replace",
        "cogniforge:cluster:EksCluster$aws:eks/cluster:Cluster",
        "prod-eks",
        diffs=["encryptionConfig"],
        keys=["encryptionConfig"],
    ),
    event("delete", "cogniforge:cluster:GpuNodePool$aws:eks/nodeGroup:NodeGroup", "prod-gpu-small"),
    {
        "policyEvent": {
            "enforcementLevel": "mandatory",
            "policyName": "aws-cluster-deletion-protected",
            "resourceUrn": f"{TREE}$cogniforge:cluster:EksCluster$aws:eks/cluster:Cluster::prod-eks",
            "message": "Clusters are protected.\ndeletion protection is off | set deletionProtection to true",
        }
    },
    {
        "policyEvent": {
            "enforcementLevel": "advisory",
            "policyName": "k8s-spread",
            "resourceUrn": f"{TREE}$cogniforge:ai:AiService$kubernetes:apps/v1:Deployment::prod-router",
            "message": "<{%fg 3%}>Pods are spread.<{%reset%}>\nno topology spread constraints",
        }
    },
    {"diagnosticEvent": {"severity": "info", "message": "GPU pool slices: 98.32 USD per hour a node"}},
)


def test_the_comment_of_a_refused_preview() -> None:
    found = preview.read("prod", engine.Outcome(1, EVENTS, ""))
    assert_golden("preview-refused.md", preview.markdown(found))


def test_the_comment_of_a_preview_without_changes() -> None:
    found = preview.read("prod", engine.Outcome(0, EVENTS[:1], ""))
    assert_golden("preview-unchanged.md", preview.markdown(found))


def test_the_verdict_of_an_upgrade_with_its_way_back() -> None:
    def edit(before: dict[str, Any]) -> None:
        before["config"]["cluster"]["eks"]["version"] = "1.33"
        before["config"]["gateway"]["replicas"] = 2
        before["versions"]["chart istiod"] = "1.29.0"

    found = verdict(edit)
    found.findings += upgrade.step_findings(preview.read("prod", engine.Outcome(1, EVENTS, "")).steps)
    found.findings[:] = [f for f in found.findings if f.part != "chart istiod"] + [
        upgrade._version_finding(versions.move("chart istiod", "1.29.0", "1.30.3"))
    ]
    assert_golden("upgrade-blocked.md", upgrade.markdown(found))


def test_the_verdict_before_the_first_update() -> None:
    assert_golden("upgrade-first.md", upgrade.markdown(upgrade.Verdict("prod", False)))


def _found(edit: Any, **definition: Any) -> list[upgrade.Finding]:
    """Findings for a change of prod's configuration, or of its deployed state."""
    after = copy.deepcopy(stack())
    edit(after)
    before = {"config": parse(stack()).model_dump(mode="json", by_alias=True), "versions": catalogue.versions()}
    return upgrade.definition_findings({**before, **definition}, parse(after))


def test_a_smaller_volume_is_blocked() -> None:
    found = _found(lambda c: c["data"]["kafka"].update(storage="100Gi"))
    assert [(f.risk, f.what) for f in found] == [(Risk.BLOCKED, "data.kafka.storage: 500Gi -> 100Gi")]
    assert "cannot shrink" in found[0].todo


def test_a_larger_volume_grows_with_the_update() -> None:
    found = _found(lambda c: c["data"]["kafka"].update(storage="1Ti"))
    assert [(f.risk, f.todo) for f in found] == [(Risk.SAFE, "")]
    assert "keeps its size" in found[0].way_back


@pytest.mark.parametrize(("part", "field"), [("postgres", "rds"), ("kafka", "msk"), ("objectStore", "s3")])
def test_data_never_moves_to_another_engine_by_the_way(part: str, field: str) -> None:
    found = _found(lambda c: c["data"][part].pop(field))
    assert {f.risk for f in found if f.what.startswith(f"data.{part}.{field}")} == {Risk.BLOCKED}


def test_a_data_part_more_is_safe_and_one_less_is_blocked() -> None:
    assert {f.risk for f in _found(lambda c: c["data"].pop("postgres") and _needing(c))} >= {Risk.BLOCKED}
    bare = copy.deepcopy(stack())
    bare["data"].pop("cache")
    before = {"config": parse(bare).model_dump(mode="json", by_alias=True), "versions": catalogue.versions()}
    assert {f.risk for f in upgrade.definition_findings(before, parse(stack()))} == {Risk.SAFE}


def _needing(config: dict[str, Any]) -> None:
    """Remove everything that depends on PostgreSQL."""
    for part in ("schemaRegistry", "changeDataCapture", "vectorDatabase"):
        config["data"].pop(part)
    for service in ("user", "prompt", "retriever", "billing", "audit"):
        config["services"].pop(service)


def test_an_event_that_old_ones_do_not_fit_is_blocked() -> None:
    old = event_schemas.current()
    old["prompt.changed.v1"]["required"].remove("change")
    found = _found(lambda c: None, schemas=old)
    assert [(f.part, f.risk) for f in found] == [("schema-registry", Risk.BLOCKED)]
    assert "prompt.changed.v1: data.change was optional" in found[0].what


TEXT: dict[str, Any] = {"type": "object", "properties": {"id": {"type": "string"}}}


def _blocked_own(after: dict[str, Any] | None) -> list[str]:
    """What is blocked where an own service wrote a topic with the schema TEXT, and writes it with another one now."""

    def config(schema: dict[str, Any] | None) -> dict[str, Any]:
        data, kafka = copy.deepcopy(stack("local")), {"produces": ["a.b.v1"], "schemas": {"a.b.v1": schema}}
        data["services"]["custom"] = {"notes": {"build": "a/b", "kafka": kafka}} if schema else {}
        return data

    old = parse(config(TEXT))
    before = {
        "config": old.model_dump(mode="json", by_alias=True),
        "versions": catalogue.versions(),
        "schemas": event_schemas.current() | event_schemas.own(old.around.records.values()),
    }
    found = upgrade.definition_findings(before, parse(config(after)))
    return [f.what for f in found if f.risk is Risk.BLOCKED]


def test_an_own_topic_whose_new_schema_refuses_old_values_is_blocked() -> None:
    assert _blocked_own({**TEXT, "required": ["id"]}) == ["a.b.v1: value.id was optional or unknown, and is required"]


def test_an_own_topic_may_get_an_optional_property_or_go_with_its_service() -> None:
    more = {"type": "object", "properties": {**TEXT["properties"], "title": {"type": "string"}}}
    assert _blocked_own(more) == _blocked_own(None) == []


def test_protected_resources_are_listed_by_kind_and_name() -> None:
    urn = "urn:pulumi:prod::cogniforge::cogniforge:data:DataServer$kubernetes:apps/v1:StatefulSet::prod-kafka"
    resources = [{"urn": urn, "protect": True}, {"urn": urn.replace("kafka", "x")}]
    assert stacks.protected({"deployment": {"resources": resources}}) == ["StatefulSet prod-kafka"]
    assert stacks.protected({"deployment": {}}) == []
