"""`forge init`: for any answers, the file is valid, or no file is written."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli import environment_file as files
from cli import stack
from components.config.cluster import ClusterKind
from components.config.parse import parse
from components.config.platform import Environment
from local import paths
from local.errors import LocalError
from tests.unit.test_cli_output import Run, golden, run

__all__ = ["run"]
EKS = ("--on", "eks", "--registry", "registry.example.com/x", "--account", "444444444444", "--region", "eu-central-1")
ADMIN = ("--admin", "arn:aws:iam::444444444444:role/admin", "--vpc-cidr", "10.40.0.0/16", "--owner", "us")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stacks").mkdir()
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("prod-eu", [*EKS, *ADMIN, "--stage", "prod", "--size", "medium", "--host", "api.example.eu"], ""),
        ("play", ["--on", "local", "--port", "8453"], "me\nlocalhost\n"),
        ("laptop", ["--on", "existing", "--build", "--context", "kind-kind", "--host", "localhost"], "me\n\n"),
        ("shared", ["--on", "existing"], "staging\nlarge\nus\nai.example.com,ai.example.org\nghcr.io/us\nours\n"),
    ],
)
def test_an_environment_is_written(run: Run, project: Path, name: str, arguments: list[str], answer: str) -> None:
    golden(f"init-{name}.txt", run("init", name, *arguments, answer=answer), wide=True)
    written = (project / f"stacks/Pulumi.{name}.yaml").read_text()
    golden(f"init-{name}.yaml", (0, written, ""))
    assert stack.read_config(name).cluster.kind == arguments[1]


def test_an_existing_file_stays(run: Run, project: Path) -> None:
    file = project / "stacks/Pulumi.prod.yaml"
    file.write_text("mine")
    golden("init-exists.txt", run("init", "prod", "--on", "local"), 1)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["Prod", "a_b", "../x", "-a", "a" * 25, ""])
def test_a_name_that_cannot_be_one_is_refused(run: Run, project: Path, name: str) -> None:
    status, _, errors = run("init", "--on", "local", "--", name)
    assert status == 1
    assert "lower-case letters, digits and single hyphens" in " ".join(errors.split())
    assert list((project / "stacks").iterdir()) == []


def test_failed_requests_are_named(run: Run, project: Path) -> None:
    golden("init-unanswered.txt", run("init", "prod-eu", *EKS, "--stage", "prod", "--size", "small"), 1)
    assert list((project / "stacks").iterdir()) == []


def test_an_unusable_answer_is_reported_with_the_reason(run: Run, project: Path) -> None:
    arguments = [*EKS, *ADMIN, "--stage", "prod", "--size", "small", "--host", "not a host"]
    golden("init-refused.txt", run("init", "prod-eu", *arguments), 1)
    assert list((project / "stacks").iterdir()) == []


@pytest.mark.parametrize(("kind", "stage", "size"), list(itertools.product(ClusterKind, Environment, files.Size)))
def test_every_kind_stage_and_size_is_valid(kind: ClusterKind, stage: Environment, size: files.Size) -> None:
    if (kind is ClusterKind.LOCAL) != (stage is Environment.LOCAL):
        return
    answers = files.Answers(
        "prod-eu",
        kind,
        stage,
        size,
        registry="ghcr.io/us",
        context="ours",
        region="eu-central-1",
        account_id="444444444444",
        admins=("arn:aws:iam::444444444444:role/admin",),
        port=8443,
    )
    assert parse(files.definition(answers)).environment is stage


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_any_answer_gives_a_file_or_an_error(host: str, owner: str, context: str) -> None:
    answers = files.Answers(
        "any", ClusterKind.EXISTING, Environment.DEV, owner=owner, hosts=(host,), registry="ghcr.io/us", context=context
    )
    file = stack.config_file("any")
    try:
        files.write(answers)
        assert yaml.safe_load(file.read_text())["config"]["cogniforge:platform"]["owner"] == owner
    except LocalError:
        assert not file.exists()
    finally:
        file.unlink(missing_ok=True)
