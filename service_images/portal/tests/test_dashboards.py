"""Dashboards: graphs of a real Prometheus, what they are drawn of, and what a server that fails does to the page."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from portal import dashboards, graphs, numbers, servers

from components.observability import scraping
from service_images.portal.tests.alone import page
from service_images.portal.tests.faulty import MIB, faulty
from service_images.portal.tests.running_prometheus import running
from service_images.portal.tests.test_bad_cases import ATTACK, _harmless
from service_images.router.tests.conftest import until

pytestmark = pytest.mark.xdist_group("promtool")
RECORDED = [
    {"alert": "Evaluated", "expr": "shown_value", "labels": {"severity": "page"}},
    *({"record": "shown_value", "expr": f"vector({number})", "labels": {"part": part}}
      for number, part in enumerate(["p1", "p2", "p3", ATTACK, *(f"p{number}" for number in range(5, 12))], 1)),
    {"record": "negative_value", "expr": "vector(-2048)"},
    {"record": "no_number", "expr": "vector(0) / 0"},
]  # fmt: skip


def query(promql: str, legend: str = "{{part}}") -> dict[str, str]:
    return {"query": promql, "legend": legend}


def panel(title: str, *queries: dict[str, str], unit: str = "short", about: str = "About it.") -> dict[str, Any]:
    return {"title": title, "description": about, "unit": unit, "queries": queries}


def board(*panels: dict[str, Any], name: str = "first", title: str = "First") -> dict[str, Any]:
    return {"name": name, "title": title, "description": "What it answers.", "owner": "team-a", "folder": "All",
            "panels": panels}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def patient() -> Iterator[None]:
    """A machine that others use, too, takes longer than a page waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "ANSWER_S", 60.0)
        yield


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with running(tmp_path_factory.mktemp("prometheus"), RECORDED) as found:
        yield found


def test_each_graph_has_its_lines_units_legend_and_queries(prometheus: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, _ = prometheus
    boards = [
        board(
            panel(ATTACK, query("shown_value", "part {{part}}"), unit="reqps", about=ATTACK),
            panel("Below zero", query("negative_value", "free"), unit="bytes"),
            panel("Changes", query("sum(changes(shown_value[$__rate_interval]))", "all"), unit="ops"),
            panel("Nothing", query("no_number", ATTACK), query("absent_metric", "x")),
        ),
        board(panel("Other", query("vector(1)", "one")), name="second", title=ATTACK),
    ]
    found = page("/portal/dashboards?hours=1", "admin", prometheus_url=url, boards=boards)
    _harmless(found)
    assert "<h1>First</h1>" in found and "team-a" in found and "What it answers." in found
    first, below, changes, nothing = found.split("<figure")[1:]
    # Of eleven lines, the eight with the highest values are drawn.
    assert first.count('<path class="line line-') == 16 and "3 lines with lower values are not drawn" in first
    assert "part p11" in first and "11/s" in first and "part p2<" not in first
    assert "free" in below and "-2 KiB" in below
    assert "[120s]" in changes and "0/s" in changes
    assert "No values in this time." in nothing
    assert "Prometheus" not in found and len(found.encode()) < 60_000


def test_a_query_leads_to_its_answer_and_no_other_query_is_sent(
    prometheus: tuple[str, subprocess.Popen[bytes]],
) -> None:
    url, _ = prometheus
    given = {"prometheus_url": url, "boards": [board(panel("One", query("shown_value")))]}
    found = page("/portal/dashboards", "admin", **given)
    address = re.findall(r'href="(/portal/dashboards/query[^"]*)"', found)[0].replace("&amp;", "&")
    answer = page(address, "admin", **given)
    assert "&lt;script&gt;" in answer and "<script>" not in answer
    assert (
        "/api/v1/query_range?query=shown_value&amp;start=" in answer and "&#34;status&#34;: &#34;success&#34;" in answer
    )
    for wrong, status in (("panel=1", 404), ("query=1", 404), ("board=other", 404), ("hours=5", 400), ("panel=x", 400)):
        name = wrong.split("=")[0]
        page(re.sub(rf"{name}=[^&]*", wrong, address), "admin", status=status, **given)
    page("/portal/dashboards?board=other", "admin", status=404, **given)


def test_only_operators_see_boards_and_nothing_is_asked_for_others() -> None:
    with faulty() as server:
        given = {"prometheus_url": server.url, "boards": [board(panel("One", query("shown_value")))]}
        found = page("/portal/dashboards", "billing", **given)
        assert "for operators" in found and "One" not in found
        page("/portal/dashboards/query?board=first&panel=0&query=0", "billing", status=404, **given)
        assert server.paths == []


def test_without_prometheus_the_page_says_how_to_switch_it_on() -> None:
    found = page("/portal/dashboards", "admin", boards=[board(panel("One", query("x")))])
    assert "prometheus: {}" in found and "<figure" not in found


def test_a_server_that_is_away_is_named_and_the_page_stands() -> None:
    with faulty() as server:
        url = server.url
    found = page("/portal/dashboards", "admin", prometheus_url=url, boards=[board(panel("One", query("x")))])
    assert "Prometheus does not answer." in found and "Queries of One" in found


def test_a_slow_server_ends_no_page_and_the_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ANSWER_S", 0.5)
    with faulty() as server:
        server.hangs = threading.Event()
        many = [panel(f"Panel {number}", query("x")) for number in range(12)]
        found = page("/portal/dashboards", "admin", prometheus_url=server.url, boards=[board(*many)])
        assert found.count("within 0.5 seconds") == 12 and "Queries of Panel 11" in found
        until(lambda: len(server.paths) > 0)
        assert len(server.paths) <= 4, "all queries together wait as long as one, so no more are sent"


@pytest.mark.parametrize(
    ("body", "times", "why"),
    [
        (MIB, 3, "sent more than 2 MiB"),
        (b"[]", 1, "an unknown form"),
        (b'{"data": {"result": [{"metric": 1, "values": 2}]}}', 1, "an unknown form"),
        (b'{"data": {"result": [{"metric": {}, "values": [["a", "b"]]}]}}', 1, "an unknown form"),
        (b"<html>", 1, "an unknown form"),
    ],
)
def test_an_answer_that_is_too_long_or_of_another_form_is_named(body: bytes, times: int, why: str) -> None:
    with faulty() as server:
        server.body, server.times = body, times
        boards = [board(panel("One", query("x")))]
        assert why in page("/portal/dashboards", "admin", prometheus_url=server.url, boards=boards)


def test_a_refusal_is_named() -> None:
    with faulty() as server:
        server.status = 422
        boards = [board(panel("One", query("x")))]
        assert "Prometheus answered 422" in page(
            "/portal/dashboards", "admin", prometheus_url=server.url, boards=boards
        )


def test_the_queries_of_a_page_are_bounded() -> None:
    with faulty() as server:
        server.body = b'{"data": {"result": []}}'
        many = [panel(f"Panel {number}", query("x"), query("y")) for number in range(20)]
        found = page("/portal/dashboards", "admin", prometheus_url=server.url, boards=[board(*many)])
        assert len(server.paths) == dashboards.MOST_QUERIES and found.count("sends at most 30 queries") == 5


def test_a_page_of_many_lines_stays_small() -> None:
    values = [[1_700_000_000 + 60 * step, f"{step * 0.123456789}"] for step in range(84)]
    one = {"metric": {"part": "p" * 500}, "values": values}
    content = {"data": {"result": [one] * 20}}
    window = (1_700_000_000.0, 1_700_000_000.0 + 60 * 84, 60.0)
    drawn = graphs.graph(graphs.series(content, "{{part}}"), "s", *window)
    assert len(drawn.lines) == graphs.MOST_LINES and drawn.left_out == 12
    assert sum(len(line.path) + len(line.name) for line in drawn.lines) < 10_000


def test_a_rate_covers_four_scrapes() -> None:
    assert dashboards.RATE_S >= 4 * scraping.INTERVAL_S


_FINITE = st.floats(allow_nan=False, allow_infinity=False)


@example([(0.0, 5e-324)], "s")
@example([(0.0, -1.7e308), (60.0, 1.7e308)], "bytes")
@given(st.lists(st.tuples(st.floats(0, 3600), _FINITE), max_size=50), st.sampled_from(["s", "bytes"]))
def test_any_values_make_a_graph_inside_its_box(points: list[tuple[float, float]], unit: str) -> None:
    made = graphs.graph([graphs.Series("a", sorted(points))], unit, 0.0, 3600.0, 60.0)
    assert len(made.lines) == bool(points)
    for line in made.lines:
        places = [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", line.path)]
        assert len(places) == len(points)
        assert all(0 <= x <= graphs.WIDTH and 0 <= y <= graphs.HEIGHT for x, y in places)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0, "short", "0"), (1234.5, "short", "1.23 k"), (0.00012, "short", "0.00012"), (2e15, "short", "2000 T"),
        (1536, "bytes", "1.5 KiB"), (1048576, "Bps", "1 MiB/s"), (0.257, "percentunit", "25.7 %"),
        (97, "percent", "97 %"), (0.0042, "s", "4.2 ms"), (90, "s", "1.5 min"), (250, "ms", "250 ms"),
        (0, "s", "0 ms"), (7200, "s", "2 h"), (12.3456, "reqps", "12.3/s"), (64.2, "celsius", "64.2 °C"),
        (12.5, "currencyUSD", "$12.50"), (3, "unknown", "3"), (-1.5e12, "short", "-1.5 T"),
    ],
)  # fmt: skip
def test_values_have_their_unit(value: float, unit: str, shown: str) -> None:
    assert numbers.measure(value, unit) == shown
