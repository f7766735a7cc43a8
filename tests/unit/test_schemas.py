"""Every custom resource of every environment against the upstream schema of its CRD; unknown fields are refused."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from pulumi.output import Unknown

from components.ai import model_serving
from components.config.gpu import GpuPool
from components.config.models import Model
from tests import upstream
from tests.unit.test_platform import registered

pytestmark = pytest.mark.xdist_group("tree")

_BUILT_IN = (
    "admissionregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "core",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
)
_OURS = ("storage.k8s.io", "resource.k8s.io", "helm.sh")


@functools.cache
def _definitions() -> dict[tuple[str, str], dict[str, Any]]:
    """Schemas by (apiVersion, kind)."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for project in (
        "gateway-api",
        "istio",
        "karpenter",
        "keda",
        "kong-ingress-controller",
        "kserve",
        "prometheus-operator",
    ):
        for document in upstream.documents(project):
            spec = document.get("spec", {})
            for version in spec.get("versions", []):
                key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                found[key] = closed(version["schema"]["openAPIV3Schema"], top=True)
    return found


def closed(schema: dict[str, Any], *, top: bool = False) -> dict[str, Any]:
    """A schema that refuses unknown fields, unless the CRD preserves them."""
    result = {k: v for k, v in schema.items() if k not in ("description", "format", "default")}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "properties" in schema:
        members = {k: closed(v) for k, v in schema["properties"].items()}
        if top:
            members |= {"metadata": {"type": "object"}, "apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        result["properties"] = members
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            result["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = closed(schema["additionalProperties"])
    if isinstance(schema.get("items"), dict):
        result["items"] = closed(schema["items"])
    return result


def _known(value: Any) -> Any:
    """Remove absent fields."""
    if isinstance(value, dict):
        return {k: _known(v) for k, v in value.items() if v is not None}
    return [_known(v) for v in value] if isinstance(value, list) else value


def mistakes(resource: dict[str, Any]) -> list[str]:
    """Violations of the CRD's schema; values that are unknown before the update always match."""
    schema = _definitions()[resource["apiVersion"], resource["kind"]]
    validator = jsonschema.Draft202012Validator(schema)
    errors = [e for e in validator.iter_errors(_known(resource)) if not isinstance(e.instance, Unknown)]
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in errors]


def _custom(environment: str) -> list[dict[str, Any]]:
    groups = (*_BUILT_IN, *_OURS)
    return [
        {**r.inputs, "apiVersion": r.inputs["apiVersion"]}
        for r in registered(environment)
        if r.typ.startswith("kubernetes:") and not r.typ.split(":")[1].startswith(groups)
    ]


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_custom_resources_are_valid(environment: str) -> None:
    found = _custom(environment)
    wrong = {f"{r['kind']} {r['metadata']['name']}": mistakes(r) for r in found if mistakes(r)}
    assert wrong == {}


def test_the_environments_use_the_whole_range_of_custom_resources() -> None:
    kinds = {r["kind"] for e in ("dev", "staging", "prod") for r in _custom(e)}
    wanted = {"NodePool", "EC2NodeClass", "NodeOverlay", "InferenceService", "ServingRuntime", "ScaledObject"}
    wanted |= {"LocalModelCache", "LocalModelNodeGroup", "PeerAuthentication", "AuthorizationPolicy"}
    wanted |= {"GatewayClass", "Gateway", "HTTPRoute", "KongPlugin", "KongClusterPlugin"}
    assert wanted == kinds


def _pool(**changes: Any) -> GpuPool:
    data = {"name": "p", "gpu": "h100-80", "instanceType": "p5.48xlarge", **changes}
    return GpuPool.model_validate(data)


def _model(engine: str = "vllm", **serving: Any) -> Model:
    data = {"weights": "hf://a/b", "gpuPool": "p", **serving}
    return Model.model_validate({"name": "a/b", "engine": engine, "serving": data})


def _inference_service(model: Model, pool: GpuPool) -> dict[str, Any]:
    assert model.serving is not None
    spec = model_serving.service_spec(model, model.serving, pool)
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "spec": spec}


@pytest.mark.parametrize(
    "make",
    [
        lambda: _inference_service(_model("tgi", dataType="float16", quantization="awq"), _pool()),
        lambda: _inference_service(_model(nodes=2, gpus=8), _pool()),
        lambda: _inference_service(_model(canary={"weights": "s3://b/k", "percent": 20}), _pool()),
        lambda: _inference_service(_model(slice="3g.40gb", scaling={"toZero": True}), _pool(mig="all-3g.40gb")),
    ],
    ids=["tgi", "two nodes", "canary", "a slice, to zero"],
)
def test_each_way_of_serving_is_valid(make: Callable[[], dict[str, Any]]) -> None:
    assert mistakes(make()) == []


def test_an_unknown_field_is_refused() -> None:
    resource = copy.deepcopy(_inference_service(_model(), _pool()))
    resource["spec"]["predictor"]["modl"] = {}
    assert any("modl" in mistake for mistake in mistakes(resource))


def test_a_slice_is_requested_by_name() -> None:
    service = _inference_service(_model(slice="3g.40gb"), _pool(mig="all-3g.40gb"))
    assert service["spec"]["predictor"]["model"]["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == "1"


def test_strategy_single_requests_plain_gpus() -> None:
    service = _inference_service(_model(slice="3g.40gb"), _pool(mig="all-3g.40gb", strategy="single"))
    assert service["spec"]["predictor"]["model"]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_scale_to_zero_starts_with_none() -> None:
    model = _model(scaling={"toZero": True})
    assert model.serving is not None
    assert model_serving.scaling_spec(model, model.serving, "http://p:9090")["minReplicaCount"] == 0
