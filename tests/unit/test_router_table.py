"""The Router can read the table that the platform writes."""

from __future__ import annotations

import json
import sys

import pytest

from components.config.models import Model
from components.config.routes import Route, Strategy
from components.services import routing as component
from local import paths

sys.path[:0] = [str(paths.PROJECT / "service_images" / name / "src") for name in ("kit", "router")]

from router.routes import RouteTable  # noqa: E402


def _model(**fields: object) -> Model:
    return Model.model_validate({"name": "m", **fields})


@pytest.mark.parametrize(
    ("routing", "field", "value"),
    [
        ({}, "attempts", 3),
        ({"attempts": 5}, "attempts", 5),
        ({"fallbacks": ["other"]}, "fallbacks", ("other",)),
        ({"firstTokenSeconds": 4}, "first_token_seconds", 4.0),
        ({"hedgeMilliseconds": 250}, "hedge_seconds", 0.25),
        ({}, "cache", None),
    ],
)
def test_the_configuration_reaches_the_router(routing: dict[str, object], field: str, value: object) -> None:
    models = {name: (_model(name=name), f"http://{name}:8000") for name in ("m", "other")}
    models["m"] = (_model(routing=routing), "http://m:8000")
    route = RouteTable.model_validate_json(component.route_table(models)).find("m")
    assert getattr(route, field) == value


def test_a_cache_is_configured_with_its_time() -> None:
    model = _model(routing={"cache": {"ttlSeconds": 7, "anyTemperature": True}})
    table = json.loads(component.route_table({"m": (model, "http://m:8000")}))
    assert RouteTable.model_validate(table).routes[0].cache.model_dump() == {
        "ttl_seconds": 7,
        "any_temperature": True,
        "similarity": 0.0,
    }  # type: ignore[union-attr]


def _shared(**fields: object) -> RouteTable:
    models = {name: (_model(name=name, timeoutSeconds=n), f"http://{name}:8000") for n, name in ((10, "a"), (20, "b"))}
    route = Route.model_validate({"name": "chat", "targets": [{"model": "a"}, {"model": "b", "weight": 9}], **fields})
    return RouteTable.model_validate_json(component.route_table(models, [route]))


def test_a_route_calls_each_model_with_its_own_name() -> None:
    route = _shared().find("chat")
    assert route is not None
    found = [(t.name, str(t.upstream), t.upstream_model, t.weight) for t in route.targets]
    assert found == [("a", "http://a:8000/", "a", 1), ("b", "http://b:8000/", "b", 9)]
    assert route.timeout_seconds == 20


@pytest.mark.parametrize("strategy", [s for s in Strategy if s is not Strategy.CANARY])
def test_every_strategy_is_one_of_the_routers(strategy: Strategy) -> None:
    route = _shared(strategy=strategy.value).find("chat")
    assert route is not None
    assert route.strategy.value == strategy.value


def test_a_canary_reaches_the_router() -> None:
    route = _shared(strategy="canary", canary={"model": "b", "steps": [0.1, 1], "requestsPerStep": 7}).find("chat")
    assert route is not None
    assert route.canary is not None
    assert (route.canary.target, route.canary.steps, route.canary.requests_per_step) == ("b", (0.1, 1.0), 7)


OUTSIDE = {"url": "https://api.anthropic.com", "api": "anthropic", "model": "claude", "secretName": "anthropic",
           "inputPrice": 3, "outputPrice": 15}  # fmt: skip


def test_an_external_model_is_called_with_its_credential() -> None:
    model = _model(external=OUTSIDE)
    table = RouteTable.model_validate_json(component.route_table({"m": (model, OUTSIDE["url"])}))
    (target,) = table.routes[0].servers
    assert (target.api.value, target.upstream_model, target.credential) == ("anthropic", "claude", "model-m")
    assert (target.input_price, target.output_price) == (3, 15)
    assert table.routes[0].owned_by == "external"
    assert component.credentials([model, _model(name="other")], "ns") == {
        "api.anthropic.com/model-m": ("anthropic", "key"),
        "inside/model-other.ns": ("model-other-key", "key"),
    }


def test_a_route_may_have_a_model_outside_beside_one_here() -> None:
    models = {"a": (_model(name="a"), "http://a:8000"), "b": (_model(name="b", external=OUTSIDE), OUTSIDE["url"])}
    route = Route.model_validate({"name": "chat", "targets": [{"model": "a", "inputPrice": 1}, {"model": "b"}]})
    found = RouteTable.model_validate_json(component.route_table(models, [route])).find("chat")
    assert found is not None
    assert [(t.upstream_model, t.credential, t.input_price) for t in found.servers] == [
        ("a", "", 1), ("claude", "model-b", 3),
    ]  # fmt: skip
