"""Builds and signs OPA's bundle: policies and data in one archive. The same content gives the same bytes.

Source of the format: OPA's documentation, "Bundle File Format" and "Signature Format".
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from components import sources
from components.config.problems import ConfigError, Problem

FILE = "bundle.tar.gz"
KEY_ID = "platform"
POLICIES = sources.ROOT / "policies" / "rego"
_ROOTS = ("cogniforge", "installation", "own")
_PACKAGE = "package own"
_MOST_BYTES = 700_000
"""Of the archive: a Secret in Kubernetes has at most 1 MiB, and its values are in base64."""


def build(files: Mapping[str, bytes], private_key: str) -> bytes:
    """The signed archive of `contents`. `private_key` is PEM, RSA."""
    signature = {"signatures": [_signature(files, private_key)]}
    packed = archive({**files, ".signatures.json": json.dumps(signature).encode()})
    if len(packed) > _MOST_BYTES:
        text = f"a bundle of at most {_MOST_BYTES:,} bytes"
        raise _mistake(f"{len(packed):,} bytes", text, "list fewer tenants in security.opa, or shorten your rules")
    return packed


def contents(installation: Mapping[str, Any], rules: Mapping[str, str]) -> dict[str, bytes]:
    """Files of the bundle without its signature. The revision is the hash of all others.

    `rules` are the installation's own modules by file name.
    """
    policies = {
        f"policies/{path.name}": path.read_bytes()
        for path in sorted(POLICIES.glob("*.rego"))
        if not path.name.endswith("_test.rego")
    }
    own = {f"own/{name}": text.encode() for name, text in sorted(rules.items())}
    # The installation's own rules may be missing; the set of its denials may not.
    empty: dict[str, Any] = {} if rules else {"own": {"deny": []}}
    files = {**policies, **own, "data.json": _text({"installation": installation, **empty})}
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return {**files, ".manifest": _text({"revision": digest.hexdigest()[:16], "roots": _ROOTS, "rego_version": 1})}


def revision(files: Mapping[str, bytes]) -> str:
    """The revision of a bundle, by which metrics and the log of decisions name it."""
    return str(json.loads(files[".manifest"])["revision"])


def own_rules(folder: Path) -> dict[str, str]:
    """The installation's own modules by file name, without tests. Raises ConfigError for more than denials."""
    found = {path.name: path.read_text() for path in sorted(folder.glob("*.rego")) if "_test." not in path.name}
    if not found:
        raise _mistake(str(folder), "a folder with at least one file *.rego", "add a rule, or remove the field")
    for name, text in found.items():
        packages = [line.strip() for line in text.splitlines() if line.startswith("package ")]
        if packages != [_PACKAGE]:
            limit = f"one line `{_PACKAGE}`: rules of your own can deny, and nothing else"
            raise _mistake(f"{folder / name}: {', '.join(packages) or 'no package'}", limit, f"write `{_PACKAGE}`")
    return found


def _mistake(value: str, limit: str, fix: str) -> ConfigError:
    return ConfigError([Problem("security.opa.rules", value, limit, fix)])


def _text(content: Mapping[str, Any]) -> bytes:
    """JSON as OPA hashes it: keys in order, no spaces, plain characters."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _signature(files: Mapping[str, bytes], private_key: str) -> str:
    """A JSON web token with the hashes of all files. RS256, whose signatures are the same each time."""
    key = serialization.load_pem_private_key(private_key.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("the key of bundles must be an RSA key")
    hashed = [
        {"name": name, "hash": hashlib.sha256(content).hexdigest(), "algorithm": "SHA-256"}
        for name, content in sorted(files.items())
    ]
    parts = [_encoded(_text(part)) for part in ({"alg": "RS256", "typ": "JWT"}, {"files": hashed, "keyid": KEY_ID})]
    signed = key.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
    return ".".join([*parts, _encoded(signed)])


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def archive(files: Mapping[str, bytes]) -> bytes:
    """The files as one archive, in which nothing depends on the time or the machine."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)
