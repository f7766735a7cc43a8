"""Forms with files (multipart/form-data): received within limits, and identified by a digest.

The boundary of a form differs each time, so the digest covers the fields' names, file names and contents instead of the
body.

Forms are spooled to /tmp, which is small. The total size of all forms in a process is therefore limited, and one
tenant's forms always leave room for another tenant's largest form.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from kit.errors import ApiError, ErrorType

_OVERHEAD_BYTES = 64 * 1024
_PIECE_BYTES = 256 * 1024
_AGAIN_S = 1
"""Seconds after which a refused form may be sent again."""


@dataclass(frozen=True)
class Form:
    """Limits of a form."""

    file_bytes: int
    """Most bytes of all files together."""
    at_once_bytes: int
    """Most bytes of all concurrent forms; at least twice the largest form."""
    files: int = 1
    fields: int = 16
    field_bytes: int = 64 * 1024
    _held: Counter[str] = field(default_factory=Counter[str], init=False, repr=False, compare=False)
    """Bytes of current forms by tenant."""

    @property
    def most_bytes(self) -> int:
        """Most bytes of a whole form."""
        return self.file_bytes + _OVERHEAD_BYTES

    @contextmanager
    def room(self, tenant: str, size: int) -> Iterator[None]:
        """Reserve room for a form during the block. Raises ApiError: 429 for the tenant's limit, 503 otherwise."""
        again = f"Send the file again after {_AGAIN_S} s."
        if self._held[tenant] + size > self.at_once_bytes - self.most_bytes:
            message = f"The tenant has too many concurrent uploads. {again}"
            raise ApiError(429, message, ErrorType.RATE_LIMIT, code="busy", retry_after_s=_AGAIN_S)
        if self._held.total() + size > self.at_once_bytes:
            message = f"There are too many concurrent uploads. {again}"
            raise ApiError(503, message, ErrorType.SERVER, code="busy", retry_after_s=_AGAIN_S)
        self._held[tenant] += size
        try:
            yield
        finally:
            self._held[tenant] -= size
            if not self._held[tenant]:
                del self._held[tenant]


@asynccontextmanager
async def received(request: Request, limits: Form, tenant: str) -> AsyncIterator[FormData]:
    """Receive a form. Its files are deleted at the end of the block.

    Raises ApiError: 400, 413 if it is too large, 429 or 503 if there are too many at the same time.
    """
    given = request.headers.get("content-length")
    if given is not None and not (given.isascii() and given.isdigit()):
        raise ApiError(400, "content-length: it is not a number")
    length = limits.most_bytes if given is None else int(given)  # without a length (chunked) it may be the largest
    _check(length, limits.most_bytes, limits)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(400, "content-type: it must be multipart/form-data", param="content-type")
    _bound(request, limits)
    with limits.room(tenant, length):
        form = await _form(request, limits)
        try:
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            _check(sum(file.size or 0 for file in files), limits.file_bytes, limits)
            yield form
        finally:
            await form.close()


async def _form(request: Request, limits: Form) -> FormData:
    try:
        return await request.form(max_files=limits.files, max_fields=limits.fields, max_part_size=limits.field_bytes)
    except HTTPException as error:
        raise _unreadable(error.detail) from None
    except (MultipartParseError, UnicodeDecodeError, ValueError, AssertionError, KeyError) as error:
        raise _unreadable(str(error)) from None


def _bound(request: Request, limits: Form) -> None:
    """Stop reading a body that exceeds its content-length or, without one (chunked), the limit."""
    receive, most, seen = request._receive, limits.most_bytes, 0

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
    """SHA-256 of a form's fields in order. The read position of files does not change."""
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
