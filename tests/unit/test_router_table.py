"""The table that the platform writes is one that the router reads."""

from __future__ import annotations

import json
import sys

import pytest

from components.ai import router as component
from components.config import Model
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
def test_what_is_configured_reaches_the_router(routing: dict[str, object], field: str, value: object) -> None:
    models = {name: (_model(name=name), f"http://{name}:8000") for name in ("m", "other")}
    models["m"] = (_model(routing=routing), "http://m:8000")
    route = RouteTable.model_validate_json(component.route_table(models)).find("m")
    assert getattr(route, field) == value


def test_a_cache_is_configured_with_its_time() -> None:
    model = _model(routing={"cache": {"ttlSeconds": 7, "anyTemperature": True}})
    table = json.loads(component.route_table({"m": (model, "http://m:8000")}))
    assert RouteTable.model_validate(table).routes[0].cache.model_dump() == {"ttl_seconds": 7, "any_temperature": True}  # type: ignore[union-attr]
