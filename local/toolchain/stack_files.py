"""Stack files while engines run: each engine gets a private copy, so that none writes to a file that others read.

Pulumi adds the encryption salt to a stack file in place. A second engine that reads the file at that moment finds it
empty, and writes it back empty.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import yaml

from local import paths

PASSPHRASE = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
"""Variables with the user's own passphrase, perhaps shared with a team."""
_OPERATIONS = ("destroy", "preview", "refresh", "up", "update")
"""Commands that read the configuration, and may write it. They accept `--config-file`."""
_WRITERS = ("import", "init", "history")
"""Commands below `pulumi stack` that may write the configuration. They have no `--config-file`."""
_ELSEWHERE = ("-C", "--cwd", "--config-file", "--remote")
"""Options by which an operation has another configuration, or another folder."""
_SALT = "encryptionsalt"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While no other command of this kind reads or writes the stack files of the folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def guarded(arguments: Sequence[str], folder: Path, selected: Callable[[], str] = lambda: "") -> Iterator[list[str]]:
    """Arguments of `pulumi` with which it leaves the stack files of the folder alone.

    An operation gets a copy of its stack's file. What it changes in the copy besides the salt is in the file
    afterwards. Short commands run one at a time. `selected` gives the stack of an operation that names none.
    """
    stack = (_named(arguments) or selected()) if is_operation(arguments) else ""
    file = folder / f"Pulumi.{stack}.yaml"
    if stack and file.is_file():
        with tempfile.TemporaryDirectory() as private:
            copy = Path(private, file.name)
            with locked(folder):
                before = file.read_text()
            # A salt in the file may belong to a passphrase that is gone; Pulumi reads the right one from the state.
            copy.write_text(without_salt(before) or before)
            try:
                yield [*arguments, "--config-file", str(copy)]
            finally:
                _return(copy, before, file)
    elif folder.is_dir() and len(arguments) > 1 and arguments[0] == "stack" and arguments[1] in _WRITERS:
        with locked(folder):
            _forget_salt(folder)
            try:
                yield [*arguments]
            finally:
                _forget_salt(folder)
    else:
        yield [*arguments]


def forget_salt(folder: Path) -> None:
    """Remove the encryption salt that Pulumi has written into the stack files of a folder.

    The salt belongs to this machine's passphrase. Pulumi also reads it from the state
    (PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER); in the file, it would be an uncommitted change of the checkout. It stays
    in files with encrypted values, which need it.
    """
    with locked(folder):
        _forget_salt(folder)


def without_salt(text: str) -> str | None:
    """The text of a stack file without its salt, where the salt is not needed; None: the text is not YAML."""
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    if "secure:" in text or any(name in os.environ for name in PASSPHRASE):
        return text
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(f"{_SALT}:"))


def is_operation(arguments: Sequence[str]) -> bool:
    """Whether arguments of `pulumi` are an operation on the project in the working directory."""
    elsewhere = any(one.partition("=")[0] in _ELSEWHERE for one in arguments)
    return bool(arguments) and arguments[0] in _OPERATIONS and not elsewhere


def _named(arguments: Sequence[str]) -> str:
    """The stack that the arguments name; empty: none."""
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, given, inline = option.partition("=")
        if name in ("-s", "--stack"):
            return inline if given else value
    return ""


def _forget_salt(folder: Path) -> None:
    for file in folder.glob("Pulumi.*.yaml"):
        text = file.read_text()
        kept = without_salt(text)
        if kept is not None and kept.strip() and kept != text:
            paths.rewrite(file, kept)


def _configuration(text: str) -> object:
    found = yaml.safe_load(text)
    return cast("dict[str, object]", found).get("config") if isinstance(found, dict) else None


def _return(copy: Path, before: str, file: Path) -> None:
    """Write what an engine has changed in its copy, unless the file was changed meanwhile or is gone."""
    text = without_salt(copy.read_text()) if copy.exists() else None
    # An engine that is killed while it writes leaves less than a configuration.
    if text is None or not _configuration(text) or yaml.safe_load(text) == yaml.safe_load(before):
        return
    with locked(file.parent):
        if file.is_file() and file.read_text() == before:
            paths.rewrite(file, text)
