"""`forge release`: signed images go to a registry, and their digests into the lock file that environments deploy by."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from components import catalogue
from local.errors import LocalError
from local.images import cosign
from local.images.pipeline import Built

_REGISTRY = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*")
_ENTRY = r"(?m)^(  {name}: \{{version: (?P<version>[^,]+), digest: )(?P<digest>[^}}]+)(\}})"


def check_registry(registry: str) -> None:
    """Raise LocalError unless it is host[:port][/path], as the stack files name it."""
    if not _REGISTRY.fullmatch(registry):
        raise LocalError(
            f'"{registry}" is not a registry',
            reason="it must be host[:port][/path], in lower case and without https://",
            fix="give what the stack file has under images.registry",
        )


def refuse_changed(built: Mapping[str, Built], lock: Path) -> None:
    """Raise LocalError where a version that is already released has other content now: releases never change."""
    text = lock.read_text()
    for name, image in built.items():
        entry = _entry(name, text, lock)
        if entry["digest"] not in ("null", image.digest):
            raise LocalError(
                f'"{name}" {entry["version"]} is released already, with other content',
                reason=f"{lock.name} has {entry['digest']}, this checkout builds {image.digest}",
                fix=f"raise the version of {name} in {lock.name} and set its digest to null",
            )


def push(built: Mapping[str, Built], registry: str, lock: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Copy images with signature, SBOM and provenance, verify them where they arrived, record the digests.

    Returns references by name. The lock is written once all have arrived; an interrupted release is run again.
    """
    references: dict[str, str] = {}
    text = lock.read_text()
    for name, image in built.items():
        _trusted(name, image.reference)
        version = _entry(name, text, lock)["version"]
        say(f"pushing {name} {version}")
        cosign.copy(image.reference, f"{registry}/{name}:{version}")
        references[name] = f"{registry}/{name}@{image.digest}"
        _trusted(name, references[name])
    for name, image in built.items():
        text = re.sub(_ENTRY.format(name=re.escape(name)), rf"\g<1>{image.digest}\g<4>", text)
    temporary = lock.with_suffix(f".{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(lock)
    return references


def _trusted(name: str, reference: str) -> None:
    if (reason := cosign.verify(reference, cosign.public_key())) is not None:
        raise LocalError(f'"{name}" is not released: {reference} is not what was signed', reason=reason)
    for kind in ("cyclonedx", "slsaprovenance1"):
        cosign.attestation(reference, kind, cosign.public_key())


def _entry(name: str, text: str, lock: Path) -> re.Match[str]:
    found = re.search(_ENTRY.format(name=re.escape(name)), text)
    if found is None:
        raise LocalError(f'{lock} has no image "{name}"', fix=f"add it under images: of {catalogue.LOCK_FILE.name}")
    return found
