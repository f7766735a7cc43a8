"""Output of the commands that use a cluster or a registry; and a golden file for every command."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cli import cluster, gateway, jobs, login, prove, repartition, restore, stack, verify
from cli import release as releases
from cli import status as status_view
from cli.main import COMMANDS, GROUPS
from cli.verify import Origin, Running
from components.cluster.mig_plan import repartition as plan
from components.config.images import ImageSource
from components.config.parse import parse
from local import paths
from local.images import pipeline
from local.images.catalogue import LOCAL
from local.images.evidence import Claim, Evidence
from policies.access.model import Access, Counterexample, Kind
from policies.access.proof import LAYERS, Proof, Result
from tests.golden import FOLDER
from tests.unit.test_cli_output import BUILT, Run, golden, run
from tests.unit.test_dead_letters import LETTER
from tests.unit.test_platform import stack_file, without_servers

__all__ = ["run"]


def test_a_typo_in_the_stack_file_is_explained(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = stack.config_file("local").read_text().replace("gateway:", "gatway:")
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stacks").mkdir()
    stack.config_file("local").write_text(content)
    golden("up-typo.txt", run("up"), 1)


def test_the_plan_of_a_repartition(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (("1g.10gb", 7),), (("3g.40gb", 2),)
    steps = plan({"node-1": [old, new], "node-2": [old, old]}, [new, new], {("node-1", 0): ["tenant-a/model-0"]})
    monkeypatch.setattr(status_view, "connect", lambda *_: None)
    monkeypatch.setattr(repartition, "plan", lambda *_: steps)
    golden("repartition.txt", run("repartition", "slices"))


def test_a_restore(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def go_back(_: Any, __: str, until: str, say: Any, ___: float) -> None:
        say(f"restoring to {until} from the backup of 2026-11-24 03:00")

    monkeypatch.setattr(cluster, "kubectl", lambda *_: ["kubectl"])
    monkeypatch.setattr(restore, "restore", go_back)
    golden("restore.txt", run("restore", "2026-11-24T18:00:00Z"))


class Cluster:
    """A kubectl that has the schedule, and a Job that ends as asked."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.created: list[dict[str, Any]] = []
        self.deleted: list[tuple[str, str]] = []

    def __call__(self, command: list[str], *, input: str | None = None, **_: Any) -> SimpleNamespace:
        verb, *rest = command[3:]
        said = ""
        if verb == "create" and rest[0] == "token":
            said = "a-token"
        elif verb == "create" and input:
            self.created.append(json.loads(input))
        elif verb == "delete":
            self.deleted.append((rest[0], rest[1]))
        elif rest[0] == "cronjob":
            container = {"name": "snapshots", "env": [], "volumeMounts": []}
            pod = {"containers": [container], "volumes": [], "serviceAccountName": "secret-store-snapshots"}
            job = {"metadata": {"labels": {}}, "spec": {"backoffLimit": 3, "template": {"spec": pod}}}
            said = json.dumps({"spec": {"jobTemplate": job}})
        elif rest[0] == "job":
            said = json.dumps({"status": {"failed": 1} if self.fails else {"succeeded": 1}})
        elif verb == "logs":
            said = "snapshots: there is no snapshot x" if self.fails else "snapshots: done"
        return SimpleNamespace(returncode=0, stdout=said, stderr="")


def _cluster(monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> Cluster:
    made = Cluster(fails=fails)
    monkeypatch.setattr(cluster, "kubectl", lambda *_: ["kubectl"])
    monkeypatch.setattr(jobs.subprocess, "run", made)
    return made


@pytest.mark.parametrize("verb", ["snapshots", "snapshot", "restore"])
def test_snapshots_of_the_secret_store(run: Run, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    there = _cluster(monkeypatch)
    yes = ["--yes"] if verb == "restore" else []
    golden(f"secret-store-{verb}.txt", run("secret-store", verb, *yes))
    made = {one["kind"]: one["metadata"]["name"] for one in there.created}
    assert sorted(there.deleted) == sorted((kind.lower(), name) for kind, name in made.items())
    assert made.keys() == ({"Job", "Secret"} if verb == "restore" else {"Job"})


def test_a_restore_of_the_secret_store_that_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    there = _cluster(monkeypatch, fails=True)
    golden("secret-store-restore-failed.txt", run("secret-store", "restore", "x", "--yes"), 1)
    assert {kind for kind, _ in there.deleted} == {"job", "secret"}


class StoreCluster:
    """A kubectl with a Deployment for each service, and a store whose pods take new logins as asked."""

    def __init__(self, *, taken: bool = True) -> None:
        self.taken, self.asked = taken, dict[str, Any]()

    def __call__(self, command: list[str], *, input: str | None = None, **_: Any) -> SimpleNamespace:
        verb, said = command[3], ""
        if verb == "get":
            items = [{"metadata": {"name": "billing"}, "status": {"readyReplicas": 2}}]
            said = json.dumps({"items": items})
        elif verb == "create":
            said = "a-token"
        elif verb == "exec":
            assert "a-token" not in command  # arguments are visible to every process of the machine
            self.asked = json.loads(input or "")
            problem = "" if self.taken else "1 of 2 pods have a new login; the old logins stay until they expire"
            state = {"rotations": 1, "at": "2026-11-27T12:00:00.5Z", "logins": 2, "ended": 0}
            made = [{"secret": name, "problem": "", **state} for name in self.asked["secrets"]]
            keys = (*self.asked["keys"], *self.asked["families"])
            made = [*({"secret": name, "problem": "", **state, "logins": 0} for name in keys), *made]
            made[-1]["problem"] = problem if self.asked["rotate"] else ""
            said = json.dumps(made)
        return SimpleNamespace(returncode=0, stdout=said, stderr="")


@pytest.mark.parametrize(
    ("name", "arguments", "taken", "status"),
    [
        ("rotate.txt", [], True, 0),
        ("rotate.json", ["-o", "json"], True, 0),
        ("rotate-one.txt", ["postgres/billing"], True, 0),
        ("rotate-all.txt", ["--all"], True, 0),
        ("rotate-late-pod.txt", ["--all"], False, 1),
        ("rotate-needs-restart.txt", ["kafka/router"], True, 1),
        ("rotate-unknown.txt", ["postgres/nobody"], True, 1),
        ("rotate-two-forms.txt", ["--all", "postgres/billing"], True, 1),
    ],
)
def test_rotate(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str], taken: bool, status: int
) -> None:
    there = StoreCluster(taken=taken)
    config = parse({**stack_file("local"), "security": {"secretStore": {"replicas": 1}}})
    monkeypatch.setattr(stack, "read_config", lambda _: config)
    monkeypatch.setattr(cluster, "kubectl", lambda *_: ["kubectl"])
    monkeypatch.setattr(jobs.subprocess, "run", there)
    golden(name, run("rotate", *arguments), status)
    assert there.asked.get("rotate", False) == (name in ("rotate-one.txt", "rotate-all.txt", "rotate-late-pod.txt"))


def test_without_a_store_a_rotation_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "read_config", lambda _: parse(without_servers("local")))
    golden("rotate-no-store.txt", run("rotate", "--all"), 1)


def test_a_release(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def push(built: Any, registry: str, _: Path, say: Any) -> dict[str, str]:
        say("pushing router 0.1.0")
        return {"router": f"{registry}/router@{BUILT.digest}"}

    monkeypatch.setattr(pipeline, "build", lambda *_: dict.fromkeys(LOCAL, BUILT))
    monkeypatch.setattr(releases, "refuse_changed", lambda *_: None)
    monkeypatch.setattr(releases, "push", push)
    golden("release.txt", run("release", "registry.example.com/cogniforge"), wide=True)


def test_logs_are_kubectls(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def call(command: list[str], **_: Any) -> Any:
        called.append(command)
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(status_view, "names", lambda *_: ["router"])
    monkeypatch.setattr(cluster, "kubectl", lambda *_: ["kubectl"])
    monkeypatch.setattr(subprocess, "run", call)
    golden("logs-failed.txt", run("logs", "router", "-n", "5"), 1)
    where = ["--namespace", "cogniforge", "--selector", "app.kubernetes.io/name=router"]
    assert called == [["kubectl", "logs", *where, "--tail", "5", "--prefix"]]


def test_kubectl_without_a_node_names_the_command_that_starts_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "kubectl", lambda *_: ["true"])
    golden("kubectl.txt", run("kubectl", "get", "pods"))


@pytest.mark.parametrize(
    ("name", "status", "arguments"),
    [
        ("list", 2, ["list"]),
        ("show", 0, ["show", "7", "--service", "billing"]),
        ("retry", 0, ["retry", "7", "--service", "billing"]),
        ("drop", 0, ["drop", "7", "--service", "billing", "--yes"]),
    ],
)
def test_dead_letters(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, status: int, arguments: list[str]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/dead-letters"):
            mine = [LETTER] if "billing" in request.url.path and request.url.params["after"] == "0" else []
            return httpx.Response(200, json={"dead_letters": mine, "next": None})
        return httpx.Response(200, json=LETTER) if request.method == "GET" else httpx.Response(204)

    def connect(_: str) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(answer), base_url="https://gateway/v1")

    monkeypatch.setattr(gateway, "connect", connect)
    golden(f"dead-letters-{name}.txt", run("dead-letters", *arguments), status)


def _verified(*, failing: bool) -> verify.Found:
    now = datetime(2026, 11, 27, tzinfo=UTC)
    name, digest = "127.0.0.1:5780/cogniforge/router", f"sha256:{'4' * 64}"
    good = Evidence(built=now - timedelta(days=3), commit="c0ffee" * 6, components=142)
    old = Evidence(
        {Claim.AGE: "it was built 120 days ago; the limit is 90 days"}, now - timedelta(days=120), "", True, 9
    )
    unsigned = Evidence(dict.fromkeys((Claim.SIGNATURE, Claim.PROVENANCE, Claim.SBOM), "no signatures found"))
    unknown = Evidence({Claim.DIGEST: "no image with this digest was built on this machine"})
    images = [
        Running(f"{name}@{digest}", Origin.BUILT, ["cogniforge/router-1/tables", "cogniforge/router-1/router"], good),
        Running("quay.io/theirs:1", Origin.FOREIGN, ["theirs/pod/main"]),
    ]
    if failing:
        images[1:1] = [
            Running(f"{name}@sha256:{'5' * 64}", Origin.BUILT, ["cogniforge/router-2/router"], old),
            Running(f"{name}@sha256:{'6' * 64}", Origin.BUILT, ["cogniforge/router-3/router"], unsigned),
            Running(f"{name}@sha256:{'7' * 64}", Origin.UNKNOWN, ["cogniforge/router-4/router"], unknown),
        ]
    return verify.Found("local", ImageSource.LOCAL_BUILD, now, images)


@pytest.mark.parametrize(
    ("name", "failing", "arguments"),
    [("verify.txt", False, []), ("verify-failed.txt", True, []), ("verify.json", True, ["-o", "json"])],
)
def test_verify(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, failing: bool, arguments: list[str]) -> None:
    monkeypatch.setattr(verify, "collect", lambda *_: _verified(failing=failing))
    golden(name, run("verify", *arguments), int(failing))


def test_verify_without_a_key(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    golden("verify-no-key.txt", run("verify", "--key", "cosign.pub"), 1)


def _proof(*, holes: bool) -> Proof:
    access, lost = Access("router", "connect to", "nats:4222"), Access("billing", "READ", "topic usage.recorded.v1")
    hole = Access("audit", "connect to", "billing:8080")
    policy = "NetworkPolicy cogniforge/{}, ingress rule 1"
    layers = {layer.name: layer for layer in LAYERS}
    granted = {access: policy.format("nats"), hole: policy.format("billing")}
    billing = policy.format("billing")
    excess = Counterexample("network", Kind.EXCESS, hole, billing, billing)
    reason, place = "record of billing: consumes", "ConfigMap cogniforge/kafka-access-billing"
    missing = Counterexample("kafka", Kind.MISSING, lost, reason, place)
    return Proof(
        "local",
        (
            Result(layers["network"], granted, [excess] if holes else []),
            Result(layers["mesh"], {}, []),
            Result(layers["kafka"], {lost._replace(who="audit"): place}, [missing] if holes else []),
        ),
    )


@pytest.mark.parametrize(
    ("name", "holes", "arguments"),
    [
        ("prove.txt", False, []),
        ("prove-counterexamples.txt", True, []),
        ("prove-comment.md", True, ["--comment"]),
        ("prove-matrix.md", False, ["--matrix"]),
        ("prove.json", True, ["-o", "json"]),
    ],
)
def test_prove(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, holes: bool, arguments: list[str]) -> None:
    monkeypatch.setattr(prove, "collect", lambda _: _proof(holes=holes))
    golden(name, run("prove", *arguments), int(holes), wide=name.endswith("md"))


def test_prove_prints_one_form(run: Run) -> None:
    golden("prove-two-forms.txt", run("prove", "--comment", "--matrix"), 1)


@pytest.fixture
def at_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "root", lambda _: contextlib.nullcontext())


@pytest.mark.usefixtures("at_gateway")
def test_login(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def log_in(client: object, stack: str, tenant: str, show: Callable[[str, str], None]) -> login.Session:
        show("https://localhost:8443/realms/cogniforge/device?user_code=ABCD-EFGH", "ABCD-EFGH")
        return login.Session(tenant, "r", "k", "2027-01-01T00:00:00Z")

    monkeypatch.setattr(login, "log_in", log_in)
    golden("login.txt", run("login", "acme"))


@pytest.mark.usefixtures("at_gateway")
@pytest.mark.parametrize(("name", "ended"), [("logout.txt", True), ("logout-nobody.txt", False)])
def test_logout(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, ended: bool) -> None:
    monkeypatch.setattr(login, "log_out", lambda *_: ended)
    golden(name, run("logout"))


def test_every_command_has_a_golden_file() -> None:
    files = {file.name for file in (FOLDER / "cli").iterdir()}
    nested = [
        f"{group}-{command.name or command.callback.__name__}"
        for group, app in GROUPS.items()
        for command in app.registered_commands
    ]
    names = [*COMMANDS, "kubectl", *nested]
    assert [name for name in names if not any(file.startswith((f"{name}.", f"{name}-")) for file in files)] == []


def raised(name: str, severity: str, state: str, minute: int, **more: str) -> dict[str, Any]:
    """An alert as Prometheus' API shows it."""
    labels = {"alertname": name, "severity": severity, **more}
    summary = f"{more.get('pod', 'Something')} needs [attention]."
    return {"labels": labels, "annotations": {"summary": summary}, "state": state,
            "activeAt": f"2026-11-27T10:{minute:02}:00.123456789Z", "value": "1e+00"}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "found", "status"),
    [
        ("-none", [], 0),
        ("-pending", [raised("PodRestarts", "ticket", "pending", 7, pod="router-1")], 0),
        (
            "",
            [
                raised("PodRestarts", "ticket", "firing", 7, pod="router-1"),
                raised("UserNotScraped", "page", "pending", 9),
                raised("VolumeAlmostFull", "page", "firing", 8),
            ],
            1,
        ),
    ],
)
@pytest.mark.parametrize("form", ["txt", "json"])
def test_alerts(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, found: list[dict[str, Any]], status: int, form: str
) -> None:
    content = parse(stack_file("local") | {"observability": {"prometheus": {}}})
    monkeypatch.setattr(stack, "read_config", lambda _: content)
    monkeypatch.setattr(cluster, "kubectl", lambda *_: ["kubectl"])
    monkeypatch.setattr(jobs, "kubectl", lambda *_: json.dumps({"data": {"alerts": found}}))
    golden(f"alerts{name}.{form}", run("alerts", *(["-o", "json"] if form == "json" else [])), status)


def test_alerts_without_prometheus(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "read_config", lambda _: parse(without_servers("local")))
    golden("alerts-no-prometheus.txt", run("alerts"), 1)
