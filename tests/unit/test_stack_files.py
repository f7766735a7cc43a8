"""Stack files while engines run: copies, what comes back from them, and the salt."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from local import paths
from local.toolchain import shim, stack_files

TEXT = "config:\n  a: b # why\n"
SALT = "encryptionsalt: v1:x\n"


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in stack_files.PASSPHRASE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The stack file of the stack \"one\"."""
    made = tmp_path / "Pulumi.one.yaml"
    made.write_text(TEXT)
    return made


def copy_of(arguments: list[str]) -> Path:
    """The file that an operation reads and writes."""
    return Path(arguments[arguments.index("--config-file") + 1])


@pytest.mark.parametrize("named", [["--stack", "one"], ["-s", "one"], ["--stack=one"]])
@pytest.mark.parametrize("operation", ["up", "preview", "refresh", "destroy"])
def test_an_operation_writes_the_salt_to_its_own_copy_which_goes_away(
    file: Path, operation: str, named: list[str]
) -> None:
    with stack_files.guarded([operation, *named, "--yes"], file.parent) as given:
        copy = copy_of(given)
        assert copy.read_text() == TEXT
        copy.write_text(TEXT + SALT)
    assert file.read_text() == TEXT
    assert not copy.exists()


def test_an_operation_without_a_name_uses_the_selected_stack(file: Path) -> None:
    with stack_files.guarded(["up"], file.parent, lambda: "one") as given:
        assert copy_of(given).read_text() == TEXT


def test_what_an_engine_configures_is_in_the_file_afterwards(file: Path) -> None:
    with stack_files.guarded(["up", "-s", "one", "-c", "c=d"], file.parent) as given:
        copy_of(given).write_text(f"{TEXT}  c: d\n{SALT}")
    assert file.read_text() == f"{TEXT}  c: d\n"


def test_a_change_of_the_user_during_an_operation_stays(file: Path) -> None:
    with stack_files.guarded(["up", "-s", "one"], file.parent) as given:
        copy_of(given).write_text(f"{TEXT}  c: d\n")
        file.write_text("config:\n  a: mine\n")
    assert file.read_text() == "config:\n  a: mine\n"


@pytest.mark.parametrize("left", ["", SALT, "config:\n", "config: {", "- 1\n"])
def test_an_engine_that_is_killed_while_it_writes_takes_nothing_from_the_file(file: Path, left: str) -> None:
    with stack_files.guarded(["up", "-s", "one"], file.parent) as given:
        copy_of(given).write_text(left)
    assert file.read_text() == TEXT


def test_the_salt_of_the_users_own_passphrase_is_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stack_files.PASSPHRASE[0], "shared with a team")
    with stack_files.guarded(["up", "-s", "one"], file.parent) as given:
        copy_of(given).write_text(TEXT + SALT)
    assert file.read_text() == TEXT + SALT


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "-s", "one", "--config-file", "mine.yaml"],
        ["up", "-s", "one", "-C", "elsewhere"],
        ["up", "-s", "one", "--cwd=elsewhere"],
        ["up", "-s", "two"],
        ["stack", "ls"],
        ["config", "set", "a", "b", "-s", "one"],
        [],
    ],
)
def test_other_commands_run_as_they_are(file: Path, arguments: list[str]) -> None:
    with stack_files.guarded(arguments, file.parent) as given:
        assert given == arguments


def test_a_command_that_writes_a_stack_file_runs_alone_and_leaves_no_salt(file: Path) -> None:
    with stack_files.guarded(["stack", "init", "one"], file.parent):
        descriptor = os.open(file.parent, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write_text(TEXT + SALT)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    assert file.read_text() == TEXT


@pytest.mark.parametrize("arguments", [["up", "-s", "one"], ["stack", "init", "one"]])
def test_a_salt_of_a_passphrase_that_is_gone_does_not_reach_an_engine(file: Path, arguments: list[str]) -> None:
    file.write_text(TEXT + SALT)
    with stack_files.guarded(arguments, file.parent) as given:
        read = copy_of(given) if "--config-file" in given else file
        assert read.read_text() == TEXT
    assert file.read_text() == TEXT


def test_the_stack_files_of_the_repository_have_no_salt() -> None:
    assert [
        one.name for one in (paths.PROJECT / "stacks").glob("Pulumi.*.yaml") if "\nencryptionsalt" in one.read_text()
    ] == []


def test_a_file_that_another_engine_has_just_emptied_is_not_rewritten(file: Path) -> None:
    file.write_text(SALT)
    stack_files.forget_salt(file.parent)
    assert file.read_text() == SALT


def test_the_salt_is_taken_out_of_the_stack_file(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.local.yaml"
    file.write_text("config:\n  a: b\nencryptionsalt: v1:x\n")
    stack_files.forget_salt(tmp_path)
    assert file.read_text() == "config:\n  a: b\n"


def test_pulumi_called_in_another_checkout_leaves_its_files_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "stacks" / "Pulumi.local.yaml"
    file.parent.mkdir()
    file.write_text("config:\n  a: b\nencryptionsalt: v1:x\n")
    for name in stack_files.PASSPHRASE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shim, "run", lambda _: 0)
    with pytest.raises(SystemExit):
        shim.main()
    assert file.read_text() == "config:\n  a: b\n"


def test_the_salt_stays_where_values_are_encrypted(tmp_path: Path) -> None:
    content = "config:\n  a:\n    secure: v1:y\nencryptionsalt: v1:x\n"
    file = tmp_path / "Pulumi.local.yaml"
    file.write_text(content)
    stack_files.forget_salt(tmp_path)
    assert file.read_text() == content
