"""`python tests/perf/bench_portal.py [--requests N] [page ...]`: the Portal's pages with a million requests of history.

Printed are the server time, its CPU time, and the size of each page.

All services, the Portal and the client share one Python process behind a real gateway, so that each page waits for the
work of all. The calls of the API that the slowest page makes are measured one by one as well, and each page's CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from service_images.conftest import CALLEES, CALLERS, NatsServer, running_postgres
from service_images.portal.tests import history
from service_images.portal.tests.conftest import Browser
from service_images.portal.tests.running_platform import OPERATOR, SERVICES, Platform
from service_images.router.tests.conftest import Target

REQUESTS, WARM = 100, 5
PAGES = ("mine", "ask", "requests", "requests?status=5xx&tenant=team-7", f"requests/one?id={history.LIFE}", "routes",
         "prompts", "prompts/one?name=greeting", "knowledge", "now", "map", "dashboards", "alerts",
         "evidence")  # fmt: skip


def trusted(stack: ExitStack, folder: Path) -> None:
    """A token issuer that the services trust, as in their tests."""
    from kit import identity

    from service_images import issuer

    made = issuer.Cluster(folder / "issuer")
    stack.callback(made.stop)
    identity.OWN.folder = made.project(folder / "tokens", "router", *CALLEES)
    os.environ["SERVICE_ISSUER"] = made.url
    os.environ["SERVICE_ISSUER_FOLDER"] = str(made.folder)
    os.environ["SERVICE_CALLERS"] = json.dumps([f"{issuer.NAMESPACE}/{caller}" for caller in CALLERS])
    os.environ["SERVICE_TOKENS_FOLDER"] = str(identity.OWN.folder)


def measured(client: httpx.Client, path: str) -> str:
    """Median, 95th percentile and CPU time of this process of the requests for an address, and the answer's bytes."""
    taken: list[float] = []
    for number in range(WARM + REQUESTS):
        if number == WARM:
            before = time.process_time()
        began = time.perf_counter()
        answer = client.get(path, headers={"x-request-id": uuid.uuid4().hex})
        taken.append(time.perf_counter() - began)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
    busy = (time.process_time() - before) / REQUESTS
    taken = taken[WARM:]
    p95 = statistics.quantiles(taken, n=20)[-1]
    times = f"p50 {1000 * statistics.median(taken):6.0f} ms, p95 {1000 * p95:6.0f} ms, CPU {1000 * busy:5.0f} ms"
    return f"{times}, {len(answer.content):,} bytes"


def main(pages: Sequence[str], requests: int) -> int:
    """Print the figures. `requests`: those of the history."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trusted(stack, folder)
        target = Target("demo")
        stack.callback(target.stop)
        (folder / "nats").mkdir()
        nats = NatsServer(folder / "nats")
        stack.callback(nats.kill)
        postgres = stack.enter_context(running_postgres())
        platform = Platform(folder, postgres, nats, SERVICES)
        routes = [{"model": model, "upstream": target.url} for model in ("demo", "demo-small")]
        stack.enter_context(platform.running(routes, {"retriever": {"embedder": history.Flat()}}))
        began = time.monotonic()
        history.make(platform, requests)
        print(f"history of {requests:,} requests: {time.monotonic() - began:.0f} s; load {os.getloadavg()}")
        browser = Browser(stack.enter_context(platform.client()))
        browser.sign_in(OPERATOR)
        for page in pages:
            print(f"{page:28} {measured(browser.client, f'/portal/{page}')}", flush=True)
        month = f"{datetime.now(UTC):%Y-%m}"
        meter = f"tenant=default&begin={month}-01T00:00:00Z&end={datetime.now(UTC).year + 1}-01-01T00:00:00Z"
        with platform.client(OPERATOR) as program:
            for path in (
                "/v1/self",
                "/v1/billing/tenants/default/entitlement",
                f"/v1/billing/tenants/default/invoices/{month}",
                f"/v1/billing/meters?aggregation=COUNT&field=model&group=day&{meter}",
                f"/v1/billing/meters?aggregation=SUM&field=input_tokens&group=user&{meter}",
            ):
                print(f"{path[:60]:60} {measured(program, path)}", flush=True)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the Portal's pages.")
    parser.add_argument("pages", nargs="*", default=PAGES)
    parser.add_argument("--requests", type=int, default=history.HISTORY)
    asked = parser.parse_args()
    raise SystemExit(main(asked.pages, asked.requests))
