"""Signs and attests images with cosign and a key that is generated on this machine."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from pathlib import Path

from local import paths
from local.errors import LocalError
from local.toolchain import builder
from local.toolchain.tools import ToolName

# A closed network cannot reach a transparency log, so nothing is uploaded and verification uses the key alone.
_OFFLINE_SIGN = ("--tlog-upload=false", "--use-signing-config=false", "--yes")
_OFFLINE_VERIFY = ("--insecure-ignore-tlog=true", "--private-infrastructure=true")


def keys() -> Path:
    """Folder of the signing key."""
    return paths.state() / "keys"


def public_key() -> Path:
    """Path of the public key, which verifies the images."""
    return keys() / "cosign.pub"


def _cosign(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    program, folder = builder.resolve(ToolName.COSIGN), paths.private_folder(keys())
    env = {name: value for name, value in os.environ.items() if name != "COSIGN_PASSWORD"}
    env["TUF_ROOT"] = str(keys() / "tuf")
    # Other programs of the user can read environments and arguments; cosign reads the key's password from its input.
    file = keys() / "cosign.password"
    password = file.read_text() if file.exists() else ""
    result = subprocess.run([str(program), *args], capture_output=True, text=True, env=env, cwd=folder, input=password)
    if check and result.returncode != 0:
        reason = "\n       ".join(result.stderr.strip().splitlines()[-6:])
        raise LocalError(f"cosign {args[0]} failed", reason=reason)
    return result


def ensure_key() -> None:
    """Generate the key pair if it does not exist. Its random password is stored next to it, with mode 0600."""
    folder = paths.private_folder(keys())
    if (folder / "cosign.key").exists() and public_key().exists():
        return
    paths.write_private(folder / "cosign.password", secrets.token_urlsafe(32))
    for leftover in ("cosign.key", "cosign.pub"):
        (folder / leftover).unlink(missing_ok=True)
    _cosign("generate-key-pair")
    (folder / "cosign.key").chmod(0o600)


def sign(reference: str) -> None:
    """Sign an image, given by its reference with digest."""
    _cosign("sign", "--key", "cosign.key", *_OFFLINE_SIGN, reference)


def attest(reference: str, kind: str, predicate: str) -> None:
    """Attach a signed in-toto statement. `kind` is a predicate type that cosign supports, such as "cyclonedx"."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(predicate)
        file.flush()
        _cosign(
            *("attest", "--key", "cosign.key", *_OFFLINE_SIGN, "--replace=true"),
            *("--type", kind, "--predicate", file.name, reference),
        )


def verify(reference: str, key: Path) -> str | None:
    """None if the image has a valid signature of `key`, otherwise the reason."""
    result = _cosign("verify", "--key", str(key), *_OFFLINE_VERIFY, "--output", "json", reference, check=False)
    return None if result.returncode == 0 else result.stderr.strip().splitlines()[-1]


def attestation(reference: str, kind: str, key: Path) -> str:
    """The verified statement of one type, as JSON. Raises LocalError if there is none."""
    return _cosign("verify-attestation", "--key", str(key), *_OFFLINE_VERIFY, "--type", kind, reference).stdout
