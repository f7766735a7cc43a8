"""Operators' overrides of configured routes: any sequence of changes leaves a valid table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from router.overrides import Override, Overrides, compose
from router.routes import ModelRoute, RouteTable

NAMES = ("a", "b", "c", "d")


def route(model: str, *fallbacks: str, upstream: str = "http://127.0.0.1:9000") -> ModelRoute:
    return ModelRoute.model_validate({"model": model, "upstream": upstream, "fallbacks": fallbacks})


def override(route: ModelRoute | None = None) -> Override:
    return Override(by="key:1", at=datetime.now(UTC), route=route)


def table(*routes: ModelRoute) -> RouteTable:
    return RouteTable(routes=routes)


def some(model: str) -> st.SearchStrategy[ModelRoute]:
    others = [name for name in NAMES if name != model]
    return st.lists(st.sampled_from(others), unique=True, max_size=2).map(lambda names: route(model, *names))


@st.composite
def tables(draw: st.DrawFn) -> RouteTable:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    routes = [draw(some(name)) for name in names]
    kept = [r.model_copy(update={"fallbacks": tuple(f for f in r.fallbacks if f in names)}) for r in routes]
    return table(*kept)


overrides = st.dictionaries(st.sampled_from(NAMES), st.booleans()).flatmap(
    lambda found: st.fixed_dictionaries(
        {name: (some(name) if kept else st.none()).map(override) for name, kept in found.items()}
    )
)


@given(tables(), overrides)
def test_the_composed_table_contains_every_valid_override(
    base: RouteTable, given_overrides: dict[str, Override]
) -> None:
    composed, refused = compose(base, given_overrides)
    RouteTable.model_validate(composed.model_dump())
    for model, wanted in given_overrides.items():
        if model not in refused:
            assert composed.find(model) == wanted.route
        else:
            assert composed.find(model) == base.find(model)
    untouched = {r.model for r in base.routes} - given_overrides.keys()
    assert all(composed.find(model) == base.find(model) for model in untouched)


def test_two_overrides_that_need_each_other_hold() -> None:
    composed, refused = compose(table(route("a")), {"b": override(route("b", "c")), "c": override(route("c", "b"))})
    assert not refused
    assert [r.model for r in composed.routes] == ["a", "b", "c"]


def test_the_last_model_is_not_withdrawn() -> None:
    composed, refused = compose(table(route("a")), {"a": override()})
    assert refused == {"a": "no model would remain"}
    assert composed.find("a") is not None


def test_a_model_that_others_fall_back_to_is_not_withdrawn() -> None:
    _, refused = compose(table(route("a", "b"), route("b")), {"b": override()})
    assert refused == {"b": "a falls back to b, which would not exist"}


def test_an_override_that_conflicts_with_the_configuration_waits_until_it_fits() -> None:
    taken: list[Any] = []
    kept = Overrides(table(route("a"), route("b")), taken.append)
    kept.put("a", override(route("a", "b")))
    kept.rebase(table(route("a")))
    assert kept.refused == {"a": "a falls back to b, which would not exist"}
    assert taken[-1] == table(route("a"))
    kept.rebase(table(route("a"), route("b")))
    assert not kept.refused
    assert taken[-1].find("a").fallbacks == ("b",)
