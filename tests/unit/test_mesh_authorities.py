"""Roll-over of the mesh's authority: what signs, what is trusted, and which step may follow which."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pulumi
import pytest

from cli.upgrade import definition_findings
from components.config.parse import parse
from components.mesh.sidecar import AUTHORITY
from components.transitions import Risk
from policies.access.objects import plain
from tests.unit.test_platform import registered_of, stack_file

pytestmark = pytest.mark.xdist_group("tree")
STEPS = (("first",), ("first", "second"), ("second", "first"), ("second",))


def content(authorities: tuple[str, ...]) -> dict[str, Any]:
    return stack_file("local") | {
        "mesh": {"mode": "sidecar", "authorities": list(authorities)},
        "observability": {"prometheus": {}},
    }


@functools.cache
def resources(authorities: tuple[str, ...]) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    return tuple(registered_of(content(authorities)))


def inputs(authorities: tuple[str, ...], kind: str, name: str) -> Any:
    (found,) = [plain(r.inputs) for r in resources(authorities) if r.typ.endswith(f":{kind}") and r.name == name]
    return found


@pytest.mark.parametrize("authorities", STEPS)
def test_the_first_authority_signs_and_all_are_trusted(authorities: tuple[str, ...]) -> None:
    roots = {r.name for r in resources(authorities) if r.typ.endswith(":SelfSignedCert") and "istiod" in r.name}
    assert roots == {f"local-istiod-root-{name}" for name in authorities}
    (issuer,) = [r.name for r in resources(authorities) if r.typ.endswith(":LocallySignedCert") and "istiod" in r.name]
    assert issuer == f"local-istiod-issuer-{authorities[0]}"
    held = inputs(authorities, "Secret", "local-istiod-issuer")["stringData"]
    trusted = inputs(authorities, "ConfigMap", "local-istiod-root")["data"]["root-cert.pem"]
    assert held["root-cert.pem"] == trusted
    assert inputs(authorities, "ConfigMap", "local-prometheus-mesh-root")["data"]["root-cert.pem"] == trusted


@pytest.mark.parametrize(
    ("before", "after", "risk"),
    [
        *((one, other, Risk.SAFE) for one, other in itertools.pairwise(STEPS)),
        *((other, one, Risk.SAFE) for one, other in itertools.pairwise(STEPS)),
        (("first",), ("second",), Risk.BLOCKED),
        (("first",), ("second", "first"), Risk.BLOCKED),
        (("first", "second"), ("second",), Risk.BLOCKED),
        (("second", "first"), ("first",), Risk.BLOCKED),
    ],
)
def test_a_step_is_refused_when_pods_would_refuse_each_other(
    before: tuple[str, ...], after: tuple[str, ...], risk: Risk
) -> None:
    deployed = {"config": parse(content(before)).model_dump(mode="json", by_alias=True)}
    found = [one for one in definition_findings(deployed, parse(content(after))) if one.part == "mesh"]
    assert [one.risk for one in found] == [risk]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_pods_restart_with_each_step(kind: str) -> None:
    name = {"Deployment": "local-router", "StatefulSet": "local-prometheus"}[kind]
    notes = [inputs(step, kind, name)["spec"]["template"]["metadata"]["annotations"][AUTHORITY] for step in STEPS[:2]]
    assert all(notes)
