"""The salted hash by which a leaf commits to its entry's content."""

from __future__ import annotations

import hashlib

VERSION = 2
"""Version of leaves. Leaves of version 1 have no field `v`; they contain the encrypted content and no place, and
commit to no content."""
_CONTENT = b"cogniforge audit content\n"
"""Prefix of the hashed bytes, which separates these hashes from others."""


def commitment(salt: bytes, content: bytes) -> str:
    """Hash in hexadecimal."""
    return hashlib.sha256(_CONTENT + salt + content).hexdigest()
