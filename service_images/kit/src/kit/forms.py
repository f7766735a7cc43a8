"""Forms with files (multipart/form-data): received within limits, and known by their content.

A form has another boundary each time that it is sent, so that the bytes of the body say nothing of its content: the
digest is over the fields' names, file names and contents.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from kit.errors import ApiError

_OVERHEAD_BYTES = 64 * 1024
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Form:
    """The limits of a form."""

    file_bytes: int
    """Of all files together."""
    files: int = 1
    fields: int = 16
    field_bytes: int = 64 * 1024


@asynccontextmanager
async def received(request: Request, limits: Form) -> AsyncIterator[FormData]:
    """The form; its files are gone at the end of the block. Raises ApiError: 400, or 413 for one that is too large."""
    try:
        length = int(request.headers.get("content-length") or 0)
    except ValueError:
        raise ApiError(400, "content-length: it is no number") from None
    _check(length, limits.file_bytes + _OVERHEAD_BYTES, limits)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(400, "content-type: it must be multipart/form-data", param="content-type")
    _bound(request, limits)
    try:
        form = await request.form(max_files=limits.files, max_fields=limits.fields, max_part_size=limits.field_bytes)
    except HTTPException as error:
        raise _unreadable(error.detail) from None
    except (MultipartParseError, UnicodeDecodeError, ValueError, AssertionError, KeyError) as error:
        raise _unreadable(str(error)) from None
    try:
        _check(
            sum(value.size or 0 for _, value in form.multi_items() if isinstance(value, UploadFile)),
            limits.file_bytes,
            limits,
        )
        yield form
    finally:
        await form.close()


def _bound(request: Request, limits: Form) -> None:
    """End a body that is larger than it says, or says nothing (chunked), when it is too large."""
    receive, most, seen = request._receive, limits.file_bytes + _OVERHEAD_BYTES, 0

    async def counted() -> object:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        _check(seen, most, limits)
        return message

    request._receive = counted  # type: ignore[assignment]


def _check(size: int, most: int, limits: Form) -> None:
    if size > most:
        raise ApiError(413, f"file: at most {limits.file_bytes} bytes", param="file", code="file_too_large")


def _unreadable(reason: str) -> ApiError:
    return ApiError(400, f"the form cannot be read: {reason}"[:300], param="file")


async def digest(form: FormData) -> bytes:
    """SHA-256 of what a form holds, in its order; files are as they were before."""
    found = hashlib.sha256()
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            inner = hashlib.sha256()
            while piece := await value.read(_PIECE_BYTES):
                inner.update(piece)
            await value.seek(0)
            parts = [name, value.filename or "", inner.hexdigest()]
        else:
            parts = [name, hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()]
        found.update(repr(parts).encode(errors="backslashreplace"))
    return found.digest()
