"""Checkpoints: the size and root of the log, signed, as C2SP's signed-note and tlog-checkpoint write them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_ED25519 = b"\x01"


class NoteError(ValueError):
    """A note that cannot be trusted; says why."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The signed part."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def key_id(name: str, public: bytes) -> bytes:
    """Four bytes by which a signature names its key."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def verifier(name: str, key: Ed25519PublicKey) -> str:
    """The public key as a line of text: what `verify` is given."""
    public = _raw(key)
    return f"{name}+{key_id(name, public).hex()}+{base64.b64encode(_ED25519 + public).decode()}"


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """A note that the log's own key has signed."""
    return sign_text(checkpoint.origin, checkpoint.text(), key)


def sign_text(name: str, text: str, key: Ed25519PrivateKey) -> str:
    """Any text, ending with a line, as a note of the log."""
    signature = key_id(name, _raw(key.public_key())) + key.sign(text.encode())
    return f"{text}\n\N{EM DASH} {name} {base64.b64encode(signature).decode()}\n"


def verify(note: str, trusted: str) -> Checkpoint:
    """The checkpoint of a note, if the key that `verifier` gave has signed it. Raises NoteError."""
    return parse(verify_text(note, trusted))


def verify_text(note: str, trusted: str) -> str:
    """The text of a note, if the key that `verifier` gave has signed it. Raises NoteError."""
    try:
        name, identity, encoded = trusted.strip().split("+", 2)
        public = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise NoteError("the public key is not written as <name>+<id>+<key>") from None
    if public[:1] != _ED25519 or key_id(name, public[1:]).hex() != identity:
        raise NoteError("the public key is damaged")
    text, mark, signatures = note.partition("\n\n")
    if not mark:
        raise NoteError("it has no signature")
    if not signatures.endswith("\n"):
        raise NoteError("it does not end with a line")
    for line in signatures[:-1].split("\n"):
        fields = line.split(" ")
        if len(fields) != 3 or fields[:2] != ["\N{EM DASH}", name]:
            raise NoteError(f"a line is no signature of {name}")
        signature = _exactly(fields[2])
        if signature[:4].hex() != identity:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature[4:], f"{text}\n".encode())
        except InvalidSignature:
            raise NoteError("the signature is wrong") from None
        return f"{text}\n"
    raise NoteError(f"{name} has not signed it with this key")


def _exactly(text: str) -> bytes:
    """Base64 in the one way in which it is written; a decoder alone takes no notice of some bits."""
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        raise NoteError("a part is not base64") from None
    if base64.b64encode(found).decode() != text:
        raise NoteError("a part is not base64 as it is written")
    return found


def parse(text: str) -> Checkpoint:
    """What the text of a checkpoint says. Raises NoteError."""
    lines = text.split("\n")
    try:
        size, root = int(lines[1]), base64.b64decode(lines[2], validate=True)
    except (ValueError, IndexError):
        raise NoteError("it is no checkpoint") from None
    if size < 0 or len(root) != 32:
        raise NoteError("it is no checkpoint")
    return Checkpoint(lines[0], size, root)
