"""`forge release`: pushes signed images to a registry, and records their digests in the lock file."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from components import catalogue
from components.services.registry import SERVICES
from local.errors import LocalError
from local.images import cosign
from local.images.pipeline import Built

STATEMENTS = ("cyclonedx", "slsaprovenance1")
"""Types of attestations of every image: SBOM and provenance."""
_REGISTRY = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*")
_ENTRY = r"(?m)^(  {name}: \{{version: (?P<version>[^,]+), digest: )(?P<digest>[^,}}]+)((?:, former: [^,}}]+)?\}})"


def check_registry(registry: str) -> None:
    """Raise LocalError unless the registry has the form host[:port][/path], as in stack files."""
    if not _REGISTRY.fullmatch(registry):
        raise LocalError(
            f'"{registry}" is not a registry',
            reason="it must be host[:port][/path], in lower case and without https://",
            fix="use the value of images.registry in the stack file",
        )


def refuse_changed(built: Mapping[str, Built], lock: Path) -> None:
    """Raise LocalError if the content of a released version has changed. Releases are immutable."""
    text = _with_services(lock.read_text())
    for name, image in built.items():
        entry = _entry(name, text, lock)
        if entry["digest"] not in ("null", image.digest):
            raise LocalError(
                f'"{name}" {entry["version"]} is released already, with other content',
                reason=f"{lock.name} has {entry['digest']}, this checkout builds {image.digest}",
                fix=f"in {lock.name}, raise the version of {name}, move its digest to `former` and set digest to null",
            )


def push(built: Mapping[str, Built], registry: str, lock: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Copy images with signature, SBOM and provenance to a registry, verify them there, and record their digests.

    Returns references by name. The lock file is written after all images have arrived, so an interrupted release can
    be run again.
    """
    references: dict[str, str] = {}
    text = _with_services(lock.read_text())
    for name, image in built.items():
        _trusted(name, image.reference)
        version = _entry(name, text, lock)["version"]
        references[name] = f"{registry}/{name}@{image.digest}"
        say(f"pushing {name} {version}")
        _copy(image.reference, f"{registry}/{name}:{version}")
        _certify(image.reference, references[name])
        _trusted(name, references[name])
    for name, image in built.items():
        text = re.sub(_ENTRY.format(name=re.escape(name)), rf"\g<1>{image.digest}\g<4>", text)
    temporary = lock.with_suffix(f".{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(lock)
    return references


def _copy(source: str, target: str) -> None:
    """Copy an image without changes, so that its digest stays. Registries on loopback use plain HTTP."""
    plain = [
        f"--{side}-tls-verify=false"
        for side, reference in (("src", source), ("dest", target))
        if reference.startswith(("127.0.0.1:", "localhost:"))
    ]
    command = ["skopeo", "copy", "--quiet", "--preserve-digests", *plain, f"docker://{source}", f"docker://{target}"]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise LocalError("skopeo is not installed", fix="`forge up` installs it (apt-get install skopeo)") from None
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        fix = "log in with `skopeo login` or `docker login`, check the address, and run the same command again"
        raise LocalError(f"{target} could not be pushed", reason=reason, fix=fix)


def _certify(source: str, target: str) -> None:
    """Sign the copied image, and attach the attestations of the source.

    `cosign copy` leaves out attestations that are stored as referrers of an image.
    """
    if cosign.verify(target, cosign.public_key()) is None and all(_has(target, kind) for kind in STATEMENTS):
        return
    cosign.sign(target)
    for kind in STATEMENTS:
        envelope = json.loads(cosign.attestation(source, kind, cosign.public_key()).splitlines()[0])
        cosign.attest(target, kind, json.dumps(json.loads(base64.b64decode(envelope["payload"]))["predicate"]))


def _has(reference: str, kind: str) -> bool:
    try:
        return bool(cosign.attestation(reference, kind, cosign.public_key()))
    except LocalError:
        return False


def _trusted(name: str, reference: str) -> None:
    if (reason := cosign.verify(reference, cosign.public_key())) is not None:
        raise LocalError(f'"{name}" is not released: {reference} does not match its signature', reason=reason)
    for kind in STATEMENTS:
        cosign.attestation(reference, kind, cosign.public_key())


def _with_services(text: str) -> str:
    """The lock file with an entry for each service, including services that were never released."""
    for name in (record.image for record in SERVICES.values()):
        if not re.search(_ENTRY.format(name=re.escape(name)), text):
            entry = f"  {name}: {{version: {catalogue.platform_version()}, digest: null}}\n"
            text = text.replace("\nimages:\n", f"\nimages:\n{entry}", 1)
    return text


def _entry(name: str, text: str, lock: Path) -> re.Match[str]:
    found = re.search(_ENTRY.format(name=re.escape(name)), text)
    if found is None:
        raise LocalError(f'{lock} has no image "{name}"', fix=f"add it under images: of {catalogue.LOCK_FILE.name}")
    return found
