"""Drills: named groups of tests that are long or rare. `python -m tests.drills` runs them within a time limit.

A test belongs to a drill by `pytest.mark.drill("name")`, and then to no other target of the Makefile. First come the
drills whose sources have changed; then all others, from one that the number of commits decides, so that each has its
turn. Drills that do not fit into the time are named, and do not run; one that fails ends the run with an error.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import FrameType

from cli import output
from local import paths
from local.errors import LocalError
from local.toolchain import builder
from local.toolchain.tools import TOOLS, ToolName


@dataclass(frozen=True)
class Drill:
    """A group of tests that run together."""

    name: str
    title: str
    minutes: float
    """Minutes on two cores with cached tools. Source: the runs of 2026-11-26; half as much again for those that update
    the local environment, which has had nine more servers since, until they are measured again."""
    sources: tuple[str, ...]
    """Prefixes of files and folders whose changes select the drill."""
    tools: tuple[ToolName, ...] = ()
    """Tools that the drill alone needs; they are built before its tests, which have time limits."""
    last: bool = False
    """Whether it always runs, after all others, because it removes the environment."""


_NOT_MEASURED = 10_000
"""Minutes of a drill that has not run yet: it runs by name only, or without a time limit."""
_NODE = ("local/node/", "local/toolchain/node/")
DRILLS: tuple[Drill, ...] = (
    Drill(
        "resume",
        "updates that are killed at every write, and at random, are continued; plugins end when they have to",
        18,
        ("cli/recovery.py", "cli/stack.py", "local/providers/", "local/toolchain/"),
    ),
    Drill(
        "first-up",
        "a new environment whose first update is killed again and again comes up",
        15,
        ("cli/recovery.py", "cli/stack.py", "local/providers/"),
    ),
    Drill(
        "kills",
        "data servers are killed, and a database is dropped and restored, while they are written to",
        8,
        ("components/data/", "service_images/postgres/", "service_images/kafka/", "service_images/data-tasks/"),
    ),
    Drill(
        "upgrade",
        "data servers go from older pins to the present ones and back",
        18,
        ("components/data/", "components/versions.lock.yaml", "cli/upgrade.py", "service_images/data-tasks/"),
    ),
    Drill(
        "release",
        "a release goes from its build to production in simulated accounts",
        9,
        ("cli/release.py", "cli/promotion.py", "components/delivery/", "stacks/"),
    ),
    Drill("images", "every image, built again, has the same digest", 6, ("local/images/", "service_images/base/")),
    Drill(
        "controllers",
        "KServe's and Kong's own controllers work with what is rendered for them",
        5,
        ("components/ai/model_serving.py", "components/ai/serving_operators.py", "components/mesh/kong"),
        (ToolName.KONG_CONTROLLER, ToolName.KSERVE),
    ),
    Drill(
        "engines",
        "a real Weaviate finds, filters and moves passages as the Retriever's other engines do",
        2,
        ("service_images/retriever/src/retriever/engines/", "service_images/retriever/src/retriever/migrating.py"),
        (ToolName.WEAVIATE,),
    ),
    Drill(
        "fuzz",
        "every operation and gRPC method takes what one tenant makes up, and another tenant's work goes on",
        7,
        ("service_images/", "components/mesh/"),
    ),
    Drill(
        "elsewhere",
        "the local node as somebody else's cluster, with images that are built for its registry",
        12,
        ("local/images/pipeline.py", "components/delivery/", "cli/environment_file.py"),
    ),
    Drill(
        "own-service",
        "a user's own service is built, added, used through the gateway, and removed",
        5,
        ("components/config/custom", "components/services/custom.py", "local/images/catalogue.py"),
    ),
    Drill(
        "secret-store",
        "a secret store is killed, sealed, tampered with, and loses its unseal key; logins are rotated under requests",
        14,
        (
            "cli/rotation.py",
            "components/data/cache_rights.py",
            "components/data/issued_logins.py",
            "components/security/",
            "components/data/nats_logins.py",
            "service_images/data-tasks/src/tasks/nats_logins.py",
            "service_images/kit/src/kit/bus.py",
            "service_images/kit/src/kit/cache.py",
            "service_images/kit/src/kit/database.py",
            "service_images/kit/src/kit/issued_login.py",
            "service_images/kit/src/kit/nats_login.py",
            "service_images/kit/src/kit/secret_store.py",
            "service_images/openbao/",
        ),
    ),
    Drill(
        "logins",
        "a real Keycloak: its realm is settled, people of other providers log in, programs act for them, sessions end",
        14,
        (
            "cli/accounts.py",
            "cli/commands/person.py",
            "cli/login.py",
            "components/security/keycloak",
            "components/config/applications.py",
            "components/config/providers.py",
            "components/security/realm",
            "service_images/data-tasks/src/tasks/keycloak.py",
            "service_images/data-tasks/src/tasks/realm",
            "service_images/keycloak",
            "service_images/user/src/user/login.py",
        ),
    ),
    Drill(
        "mesh",
        "the environment with sidecars and Prometheus: identities, refusals, the wire, renewal, roll-over, istiod away",
        18,
        ("components/mesh/", "local/node/capture.py", "local/toolchain/istio/"),
        (ToolName.PILOT_DISCOVERY, ToolName.PILOT_AGENT, ToolName.ISTIO_CNI),
    ),
    Drill(
        "opa",
        "two replicas of OPA under load: killed in turn, all away, a tampered bundle, a new one within ten seconds; "
        "and decisions in Kafka",
        3,
        (
            "components/security/opa.py",
            "components/security/policy_",
            "components/mesh/envoy_authorizer.py",
            "local/toolchain/opa/",
        ),
    ),
    Drill(
        "portal",
        "the Portal's pages in Chromium: light and dark, on a phone, without scripts, accessible, small and fast",
        18,
        ("components/services/portal.py", "components/services/telemetry.py", "service_images/portal/"),
        (ToolName.JAEGER, ToolName.VICTORIALOGS),
    ),
    Drill(
        "prometheus",
        "Prometheus is killed and its volume is full; faults raise alerts that name the part, and end with them",
        17,
        ("components/observability/",),
        (ToolName.PROMETHEUS,),
    ),
    Drill(
        "logs",
        "the collector and the store of log lines: killed, away, and given lines that try to harm them",
        6,
        (
            "cli/log_lines.py",
            "components/observability/log_",
            "components/observability/redaction.py",
            "local/toolchain/collector/",
            "local/toolchain/victorialogs/",
        ),
        (ToolName.COLLECTOR, ToolName.VICTORIALOGS),
    ),
    Drill(
        "traces",
        "the gateway of spans and Jaeger: what is kept, counted and removed; killed, away, and given invented names; "
        "and one trace from Envoy to Billing and Audit, through Kafka and an outbox",
        7,
        (
            "components/data/change_data_capture.py",
            "components/mesh/envoy_tracing.py",
            "components/observability/gateway_spans.py",
            "components/observability/jaeger.py",
            "components/observability/redaction.py",
            "components/observability/telemetry_gateway.py",
            "components/observability/trace_pipeline.py",
            "components/config/traces.py",
            "local/toolchain/collector/",
            "local/toolchain/jaeger/",
            "service_images/kit/src/kit/messaging.py",
            "service_images/router/src/router/model_call.py",
        ),
        (ToolName.COLLECTOR, ToolName.JAEGER),
    ),
    Drill(
        "previews",
        "200 previews of prod, four at a time, end with their verdict and without an error",
        _NOT_MEASURED,
        ("cli/engine.py", "cli/preview.py", "local/providers/", "local/toolchain/engine_process.py"),
    ),
    Drill("pools", "a connection pool elsewhere, with its certificate checked", 1, ("components/data/postgres",)),
    Drill("node", "the node is killed part by part, stopped twice and removed", 8, _NODE, last=True),
)
NAMES = frozenset(drill.name for drill in DRILLS)


def order(changed: Iterable[str], turn: int, drills: Sequence[Drill] = DRILLS) -> list[Drill]:
    """Drills for the changed files, then the others in rotation, then the last ones."""
    files = list(changed)
    usual = [drill for drill in drills if not drill.last]
    start = turn % len(usual) if usual else 0
    turned = usual[start:] + usual[:start]
    touched = [drill for drill in turned if any(file.startswith(drill.sources) for file in files)]
    return [*touched, *(d for d in turned if d not in touched), *(d for d in drills if d.last)]


def fitting(ordered: Sequence[Drill], minutes: float) -> list[Drill]:
    """Drills that fit the time; time for the last ones is reserved."""
    left = minutes - sum(drill.minutes for drill in ordered if drill.last)
    chosen: list[Drill] = []
    for drill in ordered:
        if drill.last:
            chosen.append(drill)
        elif drill.minutes <= left:
            chosen.append(drill)
            left -= drill.minutes
    return chosen


def runs(ordered: Sequence[Drill], left: Callable[[], float]) -> Iterator[Drill]:
    """Yields the next drill for the remaining minutes. Nothing runs after the last ones."""
    waiting = list(ordered)
    while chosen := fitting(waiting, left()):
        yield chosen[0]
        waiting.remove(chosen[0])
        if chosen[0].last:
            waiting = [drill for drill in waiting if drill.last]


def with_builds(drill: Drill) -> Drill:
    """The drill with the minutes that its tools need where they are not built yet."""
    missing = [TOOLS[name] for name in drill.tools if not builder.cached_path(TOOLS[name]).exists()]
    return replace(drill, minutes=drill.minutes + sum(tool.expected_s for tool in missing) / 60)


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=paths.PROJECT)
    return result.stdout.strip() if result.returncode == 0 else ""


def _changed() -> list[str]:
    """Files that differ from the commit in DRILLS_SINCE, or else from the previous commit."""
    return _git("diff", "--name-only", os.environ.get("DRILLS_SINCE", "HEAD~1"), "HEAD").splitlines()


def _interruptible() -> None:
    """Shells start background jobs with interrupts ignored, which would pass on to the command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def supervised(command: Sequence[str]) -> int:
    """Exit status of a command. SIGTERM interrupts it, so that its tests clean up, and then ends this process."""
    with subprocess.Popen(command, cwd=paths.PROJECT, preexec_fn=_interruptible) as running:

        def stop(number: int, _: FrameType | None) -> None:
            running.send_signal(signal.SIGINT)
            raise SystemExit(128 + number)  # the with statement waits for the command

        before = signal.signal(signal.SIGTERM, stop)
        try:
            return running.wait()
        finally:
            signal.signal(signal.SIGTERM, before)


def files(name: str) -> list[str]:
    """Files with tests of a drill: to collect all tests takes a minute."""
    marks = f'drill("{name}")'
    found = (file for folder in ("tests", "service_images") for file in (paths.PROJECT / folder).rglob("test_*.py"))
    return sorted(str(file.relative_to(paths.PROJECT)) for file in found if marks in file.read_text())


def _run(drill: Drill) -> bool:
    try:
        builder.resolve_all(drill.tools, output.BuildReport())
    except LocalError as error:
        print(f"drill {drill.name}: {error}", file=sys.stderr)
        return False
    command = [sys.executable, "-m", "pytest", "-v", "--durations", "5", "-m", "drill", "--drill", drill.name]
    command += ["tests/drills.py", *files(drill.name)]  # the first one has no test, but the conftest with --drill
    return supervised(command) == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run drills. Exit status 1 if one fails, 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description="Run the long and rare tests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(sorted(NAMES))}; none: all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin only what ends within this time")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.names) - NAMES):
        parser.error(f"no drill is named {', '.join(unknown)}")
    wanted = [drill for drill in DRILLS if not asked.names or drill.name in asked.names]
    begun = time.monotonic()
    wanted = [with_builds(drill) for drill in wanted]
    ordered = order(_changed(), int(_git("rev-list", "--count", "HEAD") or 0), wanted)
    ran: list[str] = []
    failed: list[str] = []
    for drill in runs(ordered, lambda: asked.minutes - (time.monotonic() - begun) / 60):
        print(f"== drill {drill.name}: {drill.title} (about {drill.minutes:g} min)", flush=True)
        started = time.monotonic()
        (ran if _run(drill) else failed).append(drill.name)
        print(f"== drill {drill.name}: {(time.monotonic() - started) / 60:.1f} min", flush=True)
    left = [drill for drill in ordered if drill.name not in (*ran, *failed)]
    print(f"drills passed: {', '.join(ran) or 'none'}")
    print(f"drills failed: {', '.join(failed) or 'none'}")
    print(f"drills not run for want of time: {', '.join(drill.name for drill in left) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
