"""Checkpoints: size and root of the log, signed, in the formats signed-note and tlog-checkpoint of C2SP."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_ED25519 = b"\x01"


class NoteError(ValueError):
    """A note is invalid. The message says why."""


class WrongSignature(NoteError):
    """The note names the key, but the signature is not the key's."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The signed text."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def key_id(name: str, public: bytes) -> bytes:
    """Four bytes that identify the key in a signature."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def verifier(name: str, key: Ed25519PublicKey) -> str:
    """The public key as a line of text, for `verify`."""
    public = _raw(key)
    return f"{name}+{key_id(name, public).hex()}+{base64.b64encode(_ED25519 + public).decode()}"


def public(verifier: str) -> bytes:
    """The key of 32 bytes in a line of `verifier`."""
    return base64.b64decode(verifier.split("+", 2)[2])[1:]


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """A checkpoint as a note, signed with the log's key."""
    return sign_text(checkpoint.origin, checkpoint.text(), key)


def sign_text(name: str, text: str, key: Ed25519PrivateKey) -> str:
    """A text that ends with a newline, as a note signed with the log's key."""
    return signed_text(name, text, _raw(key.public_key()), key.sign(text.encode()))


def signed_text(name: str, text: str, public: bytes, signature: bytes) -> str:
    """A text that ends with a newline, as a note with its signature of 64 bytes by the key `public` of 32 bytes."""
    return f"{text}\n\N{EM DASH} {name} {base64.b64encode(key_id(name, public) + signature).decode()}\n"


def verify(note: str, trusted: str) -> Checkpoint:
    """The checkpoint in a note. Raises NoteError unless a trusted key has signed it.

    `trusted`: lines of `verifier`. After a space, a line may have the largest size of logs for which its key counts.
    """
    text, last = verify_within(note, trusted)
    return within(parse(text), last)


def within(checkpoint: Checkpoint, last: int | None) -> Checkpoint:
    """The checkpoint. Raises NoteError if its size is above `last`; None: no limit."""
    if last is not None and checkpoint.size > last:
        raise NoteError(f"the key was replaced at {last} entries, and has not signed a log of {checkpoint.size}")
    return checkpoint


def verify_within(note: str, trusted: str) -> tuple[str, int | None]:
    """(text of a note, largest size of logs for which the signing key counts; None: all). Raises NoteError.

    `trusted`: as for `verify`.
    """
    refusal = NoteError("the public key does not have the form <name>+<id>+<key>")
    for line in trusted.strip().splitlines():
        key, _, last = line.partition(" ")
        try:
            return verify_text(note, key), int(last) if last else None
        except NoteError as error:
            refusal = error if not isinstance(refusal, WrongSignature) else refusal
        except ValueError:
            raise NoteError(f"the size after the public key is not a number: {last}") from None
    raise refusal


def verify_text(note: str, trusted: str) -> str:
    """The text of a note. Raises NoteError unless it is signed with the trusted key, a line of `verifier`."""
    try:
        name, identity, encoded = trusted.strip().split("+", 2)
        public = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise NoteError("the public key does not have the form <name>+<id>+<key>") from None
    if public[:1] != _ED25519 or key_id(name, public[1:]).hex() != identity:
        raise NoteError("the public key is damaged")
    text, mark, signatures = note.partition("\n\n")
    if not mark:
        raise NoteError("the note has no signature")
    if not signatures.endswith("\n"):
        raise NoteError("the note does not end with a newline")
    for line in signatures[:-1].split("\n"):
        fields = line.split(" ")
        if len(fields) != 3 or fields[:2] != ["\N{EM DASH}", name]:
            raise NoteError(f"a line is not a signature of {name}")
        signature = _exactly(fields[2])
        if signature[:4].hex() != identity:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature[4:], f"{text}\n".encode())
        except InvalidSignature:
            raise WrongSignature("the signature is wrong") from None
        return f"{text}\n"
    raise NoteError(f"{name} has not signed the note with this key")


def _exactly(text: str) -> bytes:
    """Decode base64 strictly. Decoders ignore some bits, so that several texts decode to the same bytes."""
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        raise NoteError("a part is not base64") from None
    if base64.b64encode(found).decode() != text:
        raise NoteError("a part is not canonical base64")
    return found


def parse(text: str) -> Checkpoint:
    """Parse the text of a checkpoint. Raises NoteError."""
    lines = text.split("\n")
    try:
        size, root = int(lines[1]), base64.b64decode(lines[2], validate=True)
    except (ValueError, IndexError):
        raise NoteError("the text is not a checkpoint") from None
    if size < 0 or len(root) != 32:
        raise NoteError("the text is not a checkpoint")
    return Checkpoint(lines[0], size, root)
