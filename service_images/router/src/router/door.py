"""Checks request fields that are stored in events, logs and tables, before the request is processed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kit import limits
from kit.errors import ApiError

if TYPE_CHECKING:
    from router.usage import Ask

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no name needs: C0, DEL and C1, which logs and tables cannot store, and surrogates."""
_SHOWN = 40
KEY_LONGEST = 255
"""Characters of an Idempotency-Key, as for Stripe and the other services."""
_KEY = re.compile(rb"[\x21-\x7e]{1,%d}" % KEY_LONGEST)


def check(ask: Ask) -> None:
    """Raise ApiError with all fields that are too long or contain forbidden characters."""
    mistakes = [*_text("model", ask.model, limits.MODEL), *_user(ask.user), *_metadata(ask.metadata)]
    if mistakes:
        text = "; ".join(f"{path}: {what}" for path, what in mistakes)
        raise ApiError(400, text, param=mistakes[0][0], code="invalid_value")


def idempotency_key(value: bytes) -> None:
    """Raise ApiError for an invalid Idempotency-Key."""
    if not _KEY.fullmatch(value):
        message = f"Idempotency-Key: 1 to {KEY_LONGEST} printable ASCII characters without spaces, such as a UUID."
        raise ApiError(400, message, param="Idempotency-Key", code="invalid_value")


def _user(user: str | None) -> list[tuple[str, str]]:
    return [] if user is None else _text("user", user, limits.USER)


def _metadata(metadata: Any) -> list[tuple[str, str]]:
    """Check OpenAI's limits: at most 16 texts with short keys."""
    if metadata is None:
        return []
    if not isinstance(metadata, dict):
        return [("metadata", "must be an object of texts")]
    if len(metadata) > limits.METADATA_ENTRIES.most:
        return [("metadata", f"has {len(metadata)} entries, at most {limits.METADATA_ENTRIES.most}")]
    found: list[tuple[str, str]] = []
    for key, value in metadata.items():
        found += _text("metadata key", key, limits.METADATA_KEY)
        if not isinstance(value, str):
            found.append((f"metadata.{key[:_SHOWN]}", "must be a text"))
        elif len(value) > limits.METADATA_VALUE.most:
            found.append((f"metadata.{key[:_SHOWN]}", _long(value, limits.METADATA_VALUE)))
    return found


def _text(path: str, value: str, limit: limits.Limit) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if len(value) > limit.most:
        found.append((path, _long(value, limit)))
    if (bad := _CONTROL.search(value)) is not None:
        found.append((path, f"contains the control character U+{ord(bad[0]):04X}; remove it"))
    return found


def _long(value: str, limit: limits.Limit) -> str:
    return f"has {len(value)} characters, at most {limit.most}: {value[:_SHOWN]!r}..."
