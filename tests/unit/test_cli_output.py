"""Output of each command for fixed data, 100 columns wide."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cli import destruction, documents, drift, gateway, local_environment, output, promotion, stack, upgrade
from cli import doctor as doctor_checks
from cli import main as command_line
from cli import preview as previews
from cli import status as status_view
from cli.access import Access
from cli.main import app
from cli.steps import Preview, Step, Violation
from cli.upgrade import Finding, Verdict
from components.config.parse import parse
from components.transitions import Risk
from local import paths
from local.errors import LocalError
from local.images import pipeline
from local.node.node import Node
from local.toolchain import builder, packages, shim
from policies.crossguard.rule import Level
from tests.golden import assert_golden
from tests.unit.test_platform import stack_file

Run = Callable[..., tuple[int, str, str]]
DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command as `forge` does. Returns exit status, standard output and standard error."""
    monkeypatch.setattr(output, "console", Console(highlight=False, width=100))
    monkeypatch.setattr(output, "errors", Console(highlight=False, width=100, stderr=True))
    monkeypatch.setenv("TERMINAL_WIDTH", "100")

    def execute(*arguments: str, answer: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        monkeypatch.setattr(sys, "argv", ["forge", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.guarded(lambda: app(list(arguments), prog_name="forge"))
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    return execute


def golden(name: str, result: tuple[int, str, str], status: int = 0, *, wide: bool = False) -> None:
    """Compare with the golden file. Unless `wide`, only single words may exceed 100 columns."""
    code, out, err = result
    assert code == status, out + err
    text = "".join(re.sub(r" +$", "", line, flags=re.MULTILINE) for line in (out, err))
    text = text.replace(str(paths.PROJECT), "<checkout>")
    if not wide and not name.endswith("json"):
        assert [x for x in text.splitlines() if len(x) > 100 and " " in x.strip()] == []
    assert_golden(f"cli/{name}", text)


def row(name: str, health: str, **more: Any) -> status_view.PartStatus:
    return status_view.PartStatus(name, more.pop("version", "0.1.0"), health, **more)


STATUS = status_view.Found(
    "local",
    [row("kube-apiserver", "running", version="v1.34.10", cpu_m=85, memory_mib=310)],
    [
        row("router", "healthy (1/1)", image=f"router@{DIGEST}", cpu_m=12, memory_mib=95),
        row("change-data-capture", "healthy (1/1)", version="3.3.1", image=f"change-data-capture@{DIGEST}"),
        row(
            "schema-registry",
            "not ready (0/1)",
            version="3.0.9",
            image=f"schema-registry@{DIGEST}",
            details=[
                "schema-registry-5d8f7c6b9-x2x7k: CrashLoopBackOff: back-off 5m0s restarting failed container=registry"
            ],
        ),
        row("postgres-logins", "passed", image=f"data-tasks@{DIGEST}", task=True),
    ],
    {"kubernetes": "stand-in", "random": "real"},
)


@pytest.mark.parametrize(("name", "arguments"), [("status", []), ("status-all", ["--all"])])
def test_status(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str]) -> None:
    monkeypatch.setattr(status_view, "collect", lambda _: STATUS)
    golden(f"{name}.txt", run("status", *arguments), 1)


def test_status_as_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_view, "collect", lambda _: STATUS)
    golden("status.json", run("status", "-o", "json"), 1, wide=True)


PREVIEW = Preview(
    "prod",
    steps=[
        Step("replace", "aws:rds/instance:Instance", "prod-postgres", "PostgresCluster", ("engine",), ("engine",)),
        Step("create-replacement", "aws:rds/instance:Instance", "prod-postgres", "PostgresCluster"),
        Step("create", "kubernetes:apps/v1:Deployment", "prod-billing", "Service"),
        Step("update", "kubernetes:apps/v1:Deployment", "prod-router", "Router", ("spec",)),
        Step("delete", "kubernetes:core/v1:ConfigMap", "prod-old", "Router"),
    ],
    unchanged=212,
    violations=[
        Violation(
            "replicas",
            Level.MANDATORY,
            "urn:pulumi:prod::cogniforge::kubernetes:apps/v1:Deployment::prod-billing",
            "1 replica; production needs 2. Fix: set services.billing.replicas to 2 or more.",
        )
    ],
    notes=["GPU nodes: 98.32 to 294.96 USD per hour"],
    unreleased=['image "billing" 0.1.0 is not released: versions.lock.yaml has no digest for it'],
)
VERDICT = Verdict(
    "prod",
    True,
    [
        Finding(
            "PostgresCluster",
            Risk.BLOCKED,
            "replace aws:rds/instance:Instance prod-postgres (engine)",
            "it holds a database: move the data first, then unprotect the resource and delete it by hand",
            "only from a backup",
        ),
        Finding("gateway", Risk.MANUAL, "gateway.port: 443 -> 8443", "requests may fail while the change is applied"),
        Finding("Router", Risk.SAFE, "2 resources created or changed in place", "", "`git revert` and `forge up`"),
    ],
    cost="GPU nodes: 98.32 to 294.96 USD per hour, as before",
)
FRESH = Preview("dev", steps=PREVIEW.steps[2:4], unchanged=0)


@pytest.fixture
def previewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "ensure", lambda _: None)
    monkeypatch.setattr(previews, "collect", lambda name, **_: PREVIEW if name == "prod" else FRESH)
    monkeypatch.setattr(upgrade, "check", lambda name, *_: VERDICT if name == "prod" else Verdict(name, False))


@pytest.mark.usefixtures("previewed")
@pytest.mark.parametrize(
    ("name", "status", "arguments"),
    [
        ("preview-refused.txt", 1, ["--stack", "prod"]),
        ("preview-first.txt", 0, ["--stack", "dev"]),
        ("preview-full.txt", 1, ["--stack", "prod", "--full"]),
        ("preview.json", 1, ["--stack", "prod", "--output", "json"]),
        ("preview-comment.md", 1, ["--stack", "prod", "--comment"]),
        ("preview-two-forms.txt", 1, ["--full", "--output", "json"]),
    ],
)
def test_preview(run: Run, name: str, status: int, arguments: list[str]) -> None:
    golden(name, run("preview", *arguments), status, wide=name.endswith(("md", "json")))


@pytest.mark.usefixtures("previewed")
def test_up_prints_the_same_as_preview(run: Run) -> None:
    shown, refused = run("preview", "-s", "prod"), run("up", "-s", "prod")
    assert refused[:2] == shown[:2]
    golden("up-refused.txt", refused, 1)


@pytest.mark.usefixtures("previewed")
@pytest.mark.parametrize(("name", "arguments"), [("upgrade-check.md", []), ("upgrade-check.json", ["-o", "json"])])
def test_upgrade_check(run: Run, name: str, arguments: list[str]) -> None:
    golden(name, run("upgrade-check", "-s", "prod", *arguments), 1, wide=True)


DRIFTED = [
    drift.Drifted("update", "kubernetes:apps/v1:Deployment", "local-router", "Router", ("spec.replicas",)),
    drift.Drifted("delete", "kubernetes:core/v1:ConfigMap", "local-settings", "Gateway", ()),
]


@pytest.mark.parametrize(("name", "arguments"), [("drift.md", []), ("drift.json", ["-o", "json"])])
def test_drift(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str]) -> None:
    monkeypatch.setattr(stack, "require_deployed", lambda _: None)
    monkeypatch.setattr(drift, "find", lambda _: DRIFTED)
    golden(name, run("drift", *arguments), 2, wide=True)


def test_drift_of_what_was_never_deployed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "exists", lambda _: False)
    golden("drift-never-deployed.txt", run("drift", "-s", "prod"), 1)


GATES = [
    promotion.Gate("same versions", True, "41 parts"),
    promotion.Gate("soaked", False, "12 of 60 minutes since the last update", "wait 48 more minutes, or lower --soak"),
]


@pytest.mark.parametrize(("name", "arguments"), [("promote.txt", []), ("promote.json", ["-o", "json"])])
def test_promote(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str]) -> None:
    monkeypatch.setattr(promotion, "gates", lambda *_: GATES)
    golden(name, run("promote", "dev", *arguments), 1)


def test_only_the_document_goes_to_standard_output(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "gates", lambda *_: GATES)
    _, out, err = run("promote", "dev", "-o", "json")
    assert documents.Promotion.model_validate_json(out).gates[1].passed is False
    assert "failed gates" in err


def test_promote_from_the_last_environment(run: Run) -> None:
    golden("promote-last.txt", run("promote", "prod"), 1)


FINDINGS = [
    doctor_checks.Finding("Python", True, "3.11.7"),
    doctor_checks.Finding(
        "ports",
        False,
        "127.0.0.1:8443 (for the gateway) is in use by python (pid 4711); 127.0.0.1:5780 (for the image registry) is "
        "in use by docker-registry (pid 4712)",
        "stop those programs",
    ),
]


WAYS = [
    doctor_checks.Way("local node", False, "lacks: ports"),
    doctor_checks.Way("existing cluster", True, "`forge init NAME --on existing --build`; contexts: kind-kind"),
]


@pytest.mark.parametrize(("name", "arguments"), [("doctor.txt", []), ("doctor.json", ["-o", "json"])])
def test_doctor(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str]) -> None:
    monkeypatch.setattr(doctor_checks, "findings", lambda: FINDINGS)
    monkeypatch.setattr(doctor_checks, "ways", lambda _: WAYS)
    golden(name, run("doctor", *arguments))


def test_tools(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "install", lambda: ["buildah", "skopeo"])
    monkeypatch.setattr(builder, "resolve_all", lambda *_: {"pulumi": Path("/cache/tools/pulumi-0123/pulumi")})
    golden("tools.txt", run("tools"))


BUILT = pipeline.Built("router", "127.0.0.1:5780/cogniforge/router", DIGEST, "hash", "buildah", signed=True)


@pytest.mark.parametrize(("name", "arguments"), [("images.txt", []), ("images.json", ["-o", "json"])])
def test_images(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str]) -> None:
    custom = {"notes": {"build": "examples/own-service/notes"}, "counter": {"image": f"ghcr.io/acme/counter@{DIGEST}"}}
    data = copy.deepcopy(stack_file("local"))
    data["services"]["custom"] = custom
    monkeypatch.setattr(stack, "read_config", lambda _: parse(data))

    def build(_: Any, say: Callable[[str], None], *, registry: str, own: Any) -> dict[str, pipeline.Built]:
        say("building router")
        assert (registry, list(own)) == ("", ["notes"])
        return {"router": BUILT, "notes": dataclasses.replace(BUILT, name="notes")}

    monkeypatch.setattr(pipeline, "build", build)
    result = run("images", *arguments)
    assert "building router" in (result[2] if arguments else result[1])
    golden(name, result)


def test_release_to_an_invalid_registry(run: Run) -> None:
    golden("release-refused.txt", run("release", "https://Registry.example.com"), 1)


def urn(part: str, type_: str, name: str) -> dict[str, Any]:
    return {"urn": f"urn:pulumi:local::cogniforge::cogniforge:x:{part}${type_}::{name}", "type": type_}


RESOURCES = [
    urn("PostgresCluster", "kubernetes:apps/v1:StatefulSet", "local-postgres"),
    urn("PostgresCluster", "kubernetes:core/v1:Service", "local-postgres"),
    {
        **urn("AiService", "kubernetes:apps/v1:Deployment", "local-router"),
        "parent": "urn:pulumi:local::cogniforge::cogniforge:x:Platform$cogniforge:ai:AiService::local-router",
    },
]


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """State of a stack with resources."""
    done: list[str] = []
    monkeypatch.setattr(stack, "resources", lambda _: RESOURCES)
    monkeypatch.setattr(stack, "ensure", lambda _: None)
    monkeypatch.setattr(stack, "refuse_protected", lambda _: None)
    monkeypatch.setattr(stack, "run", lambda *arguments, **_: done.append(" ".join(arguments)))
    monkeypatch.setattr(local_environment, "reset", lambda: done.append("reset"))
    return done


def test_destroy_lists_the_losses_and_asks_for_confirmation(run: Run, deployed: list[str]) -> None:
    golden("destroy-declined.txt", run("destroy", answer="n\n"), 1)
    golden("destroy-unanswered.txt", run("destroy"), 1)
    assert deployed == []
    assert run("destroy", answer="y\n")[0] == run("destroy", "--yes")[0] == 0
    assert deployed == ["local destroy", "local destroy"]


def test_destroy_of_what_is_not_deployed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "exists", lambda _: False)
    golden("destroy-nothing.txt", run("destroy", "-s", "dev"))
    code, out, err = run("destroy", "-s", "deev", "--yes")
    assert code == 1 and "there is no stack file Pulumi.deev.yaml" in out + err


def test_an_argument_that_is_no_text_is_named() -> None:
    command = [Path(sys.executable).with_name("forge"), b"tenant", b"show", b"a\xed\xa0\x80"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.startswith("error: argument 3 is not valid UTF-8"), result.stderr


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a name of constant length, so that lines break at the same words."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_reset_names_the_signing_keys_and_asks_for_confirmation(
    run: Run, deployed: list[str], short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = short_path
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path))
    for folder in ("node", "images", "keys", "pulumi/state/.pulumi/stacks/cogniforge"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "keys/cosign.pub").write_text("public")
    (tmp_path / "pulumi/state/.pulumi/stacks/cogniforge/local.json").write_text("{}")
    code, out, err = run("reset", answer="n\n")
    golden("reset-declined.txt", (code, out.replace(str(tmp_path), "<state>"), err), 1, wide=True)
    assert deployed == []
    assert run("reset", "--yes")[0] == 0
    assert deployed == ["reset"]


def test_the_confirmation_protects_a_reset(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path / "none"))
    assert destruction.show_reset() is False


def test_down(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "require_root", lambda: None)
    monkeypatch.setattr(Node, "down", lambda _: ["kubelet", "etcd"])
    golden("down.txt", run("down"))


def test_logs_of_an_unknown_part_name_the_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_view, "names", lambda *_: ["gateway", "router"])
    golden("logs-unknown.txt", run("logs", "nope"), 1)


def test_restore_where_there_is_no_backup(run: Run) -> None:
    golden("restore-refused.txt", run("restore", "2026-11-24T18:00:00Z", "-s", "prod"), 1)


def test_repartition_of_an_unknown_pool(run: Run) -> None:
    golden("repartition-unknown.txt", run("repartition", "nope"), 1)


def test_pulumi_is_passed_on_as_it_was_typed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(shim, "attended", lambda arguments: given.append(arguments) or 3)
    assert run("pulumi", "up", "--help", "--", "-x")[0] == 3
    assert given == [["up", "--help", "--", "-x"]]


def test_kubectl_is_passed_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def call(command: list[str], **_: Any) -> Any:
        called.append(command)
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(builder, "resolve", lambda *_: Path("/cache/node"))
    monkeypatch.setattr(subprocess, "run", call)
    assert run("kubectl", "exec", "x", "--", "ls", "--help")[0] == 3
    assert called[0][-5:] == ["exec", "x", "--", "ls", "--help"]


def test_the_end_of_up(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COGNIFORGE_HOME", "/state")
    files = [Path(f"/state/{name}") for name in ("ca.pem", "ca-bundle.pem", "api-key")]
    local_environment._farewell(Access("https://localhost:8443/v1", "cf-secret", *files, "demo"), "Hello!", 83.2)
    golden("up.txt", (0, capsys.readouterr().out, ""), wide=True)


def test_dead_letters_of_no_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "outputs", lambda _: {})
    golden("dead-letters-not-up.txt", run("dead-letters", "list", "--service", "audit"), 1)
    assert gateway.connect.__doc__


def test_an_unknown_environment_names_the_known_ones(run: Run) -> None:
    golden("unknown-environment.txt", run("status", "-s", "nope"), 1)


def test_the_version(run: Run) -> None:
    assert re.fullmatch(r"forge \d+\.\d+\.\d+\n", run("--version")[1])


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_can_complete_commands(run: Run, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FORGE_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "forge upg")
    monkeypatch.setenv("COMP_WORDS", "forge upg")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert "upgrade-check" in run()[1]


def test_environments_are_completed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FORGE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "forge up --stack st")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert run()[1].split() == ["staging"]


def test_a_command_in_the_folder_of_another_checkout_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: cogniforge\n")
    monkeypatch.chdir(tmp_path / "docs")
    code, out, err = run("status")
    assert (code, out) == (1, "")
    assert f"belongs to another checkout, {tmp_path}" in " ".join(err.split())
    monkeypatch.chdir(paths.PROJECT / "docs")
    assert "another checkout" not in run("logs", "x", "--node")[2]


def test_every_document_matches_its_schema() -> None:
    for name, model in documents.DOCUMENTS.items():
        file = Path(__file__).parents[1] / "golden" / "cli" / f"{name}.json"
        shown = json.loads(file.read_text().split("\n}\n")[0] + "\n}")
        assert model.model_validate(shown).model_dump(mode="json") == shown


def test_a_long_reason_is_wrapped_between_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        path = "/a/very/long/path/" + "x" * 100
        raise LocalError("it failed", reason=f"{'word ' * 30}{path}\n  and an indented line", fix="mend it")

    monkeypatch.setattr(status_view, "collect", fail)
    golden("error.txt", run("status"), 1)
