"""`pulumi` in the project's virtual environment: the real CLI, with this machine's backend and plugins.

All settings are defaults: variables that the user has set, a user's `pulumi login`, and real plugins on PATH or in
~/.pulumi/plugins take precedence.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
import shutil
import sys
import threading
from pathlib import Path

from components import sources
from local import paths, providers
from local.errors import LocalError
from local.toolchain import builder, engine_process, leftovers, stack_files
from local.toolchain.tools import TOOLS, ToolName

STAND_INS = {
    "pulumi-language-python": f"{providers.__name__}.language",
    **{f"pulumi-resource-{one}": f"{providers.__name__}.{one}" for one in ("aws", "kubernetes", "random", "tls")},
}
"""Modules that stand in for plugins, by the plugin's executable."""
_BUILT = {"pulumi-language-yaml": f"{__package__}.yaml_host"}
"""Modules that run Pulumi's own plugins, which are built at their first use, by the plugin's executable."""


def passphrase_file() -> Path:
    """File with the passphrase that encrypts the local stack's secrets."""
    return paths.state() / "pulumi" / "passphrase"


def backend_folder() -> Path:
    """Folder with the local stack's state."""
    return paths.state() / "pulumi" / "state"


def ensure_backend() -> None:
    """Create the state folder and, if there is none, a random passphrase.

    Raises LocalError if stacks exist and their passphrase is missing, since a new one could not decrypt them.
    """
    folder = paths.private_folder(backend_folder())
    file = passphrase_file()
    if file.exists():
        return
    if any(folder.glob(".pulumi/stacks/**/*.json*")):
        raise LocalError(
            "the passphrase of the local Pulumi state is lost",
            reason=f"{folder} holds stacks, but {file} does not exist; their secrets cannot be read without it",
            fix=f"restore the file from a backup, or start over with `forge reset`, which deletes {paths.state()}",
        )
    paths.write_private(file, secrets.token_urlsafe(32))


def state_folder() -> Path | None:
    """Folder of the backend in use; None if the backend is not a folder on this machine."""
    return leftovers.folder_of(environment().get("PULUMI_BACKEND_URL", ""))


def real_plugins() -> set[str]:
    """Names of plugin executables in the user's own installation."""
    home = Path(os.environ.get("PULUMI_HOME", str(Path.home() / ".pulumi")))
    cached = {p.name.rsplit("-v", 1)[0] for p in (home / "plugins").glob("resource-*") if p.is_dir()}
    names: set[str] = set()
    for name in STAND_INS:
        if shutil.which(name, path=_user_path()) or name.removeprefix("pulumi-") in cached:
            names.add(name)
    return names


def _user_path() -> str:
    """PATH without stand-ins, those of other installations too: a command may have been started by one of them."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join(f for f in folders if not _holds_stand_ins(Path(f)))


def _holds_stand_ins(folder: Path) -> bool:
    """Whether some installation, with this or another COGNIFORGE_HOME, wrote its stand-ins to this folder."""
    return folder.parts[-3:-1] == _plugins().parts[-3:-1] and any((folder / name).is_file() for name in STAND_INS)


def _plugins() -> Path:
    """This installation's own folder: another one's stand-ins run other code, or with another interpreter."""
    key = hashlib.sha256(f"{sources.ROOT}\0{sys.executable}".encode()).hexdigest()[:12]
    return paths.state() / "pulumi" / "plugins" / key


def _write_stand_ins() -> Path:
    """A folder with executables of just the stand-ins that no real plugin replaces."""
    folder = _plugins()
    folder.mkdir(parents=True, exist_ok=True)
    real = real_plugins()
    for name, module in (STAND_INS | _BUILT).items():
        program = folder / name
        if name in real:
            program.unlink(missing_ok=True)
            continue
        # -P: a module in the folder of the user's program must not take the place of one of ours.
        text = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m {module} "$@"\n'
        if not program.is_file() or program.read_text() != text:
            temporary = folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
            temporary.write_text(text)
            temporary.chmod(0o755)
            temporary.replace(program)  # atomic, since another command may do the same
    return folder


def environment(base: dict[str, str] | None = None) -> dict[str, str]:
    """Environment variables with which the Pulumi CLI finds this machine's backend and plugins."""
    env = dict(os.environ if base is None else base)
    env.setdefault("PULUMI_SKIP_UPDATE_CHECK", "true")
    env.setdefault("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "true")
    env.setdefault("PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER", "true")
    env.setdefault("PULUMI_IGNORE_AMBIENT_PLUGINS", "false")
    credentials = Path(env.get("PULUMI_HOME", str(Path.home() / ".pulumi"))) / "credentials.json"
    if "PULUMI_BACKEND_URL" not in env and not credentials.exists():
        ensure_backend()
        env["PULUMI_BACKEND_URL"] = f"file://{backend_folder()}"
    if not any(name in env for name in stack_files.PASSPHRASE) and passphrase_file().exists():
        env["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(passphrase_file())
    # Paths of files that `forge up` created on this machine, for the Pulumi program.
    env.setdefault("COGNIFORGE_KUBECONFIG", str(paths.state() / "node" / "kubeconfig"))
    env.setdefault("COGNIFORGE_IMAGES", str(paths.state() / "images" / "index.json"))
    env.setdefault("COGNIFORGE_IMAGE_KEY", str(paths.state() / "keys" / "cosign.pub"))
    env.setdefault("COGNIFORGE_COSIGN", str(builder.cached_path(TOOLS[ToolName.COSIGN])))
    env["PATH"] = os.pathsep.join([_user_path(), str(_write_stand_ins())])
    return env


def run(arguments: list[str]) -> int:
    """Run the real CLI. Returns its exit status."""
    if folder := state_folder():
        leftovers.clear(folder)
    program = builder.resolve(ToolName.PULUMI)
    return engine_process.attended([program, *arguments], environment())


def attended(arguments: list[str]) -> int:
    """The same, without the salt in the stack files of the working directory afterwards."""
    here = Path.cwd() / "stacks"  # perhaps those of another checkout
    if not here.is_dir():
        return run(arguments)
    if stack_files.is_operation(arguments):
        with stack_files.guarded(arguments, here, _selected) as given:
            return run(given)
    try:
        return run(arguments)
    finally:
        stack_files.forget_salt(here)


def _selected() -> str:
    """The stack that is selected in the working directory; empty: none."""
    command = [builder.resolve(ToolName.PULUMI), "stack", "--show-name", "--non-interactive"]
    shown = engine_process.capture(command, environment(), Path.cwd())
    return shown.stdout.strip() if shown.returncode == 0 else ""


def main() -> None:
    """Run the real CLI with the caller's arguments."""
    try:
        status = attended(sys.argv[1:])
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    raise SystemExit(status)


if __name__ == "__main__":
    main()
