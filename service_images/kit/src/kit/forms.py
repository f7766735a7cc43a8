"""Forms with files (multipart/form-data): received within limits, and known by their content.

A form has another boundary each time that it is sent, so that the bytes of the body say nothing of its content: the
digest is over the fields' names, file names and contents.

Forms are spooled to /tmp, which is small. So the bytes of all forms that a process receives or works on are bounded,
and those of one tenant leave room for another tenant's largest form.
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
"""After which a form that found no room may be sent again."""


@dataclass(frozen=True)
class Form:
    """The limits of a form."""

    file_bytes: int
    """Of all files together."""
    at_once_bytes: int
    """Of all forms that are received or worked on at the same time; at least two of the largest."""
    files: int = 1
    fields: int = 16
    field_bytes: int = 64 * 1024
    _held: Counter[str] = field(default_factory=Counter[str], init=False, repr=False, compare=False)
    """Bytes of the forms that there are now, by tenant."""

    @property
    def most_bytes(self) -> int:
        """Of a whole form."""
        return self.file_bytes + _OVERHEAD_BYTES

    @contextmanager
    def room(self, tenant: str, size: int) -> Iterator[None]:
        """Keep room for a form until the end of the block. Raises ApiError: 429, or 503 where all tenants are many."""
        again = f"Send the file again after {_AGAIN_S} s."
        if self._held[tenant] + size > self.at_once_bytes - self.most_bytes:
            message = f"The tenant uploads too much at the same time. {again}"
            raise ApiError(429, message, ErrorType.RATE_LIMIT, code="busy", retry_after_s=_AGAIN_S)
        if self._held.total() + size > self.at_once_bytes:
            message = f"Too much is uploaded at the same time. {again}"
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
    """The form; its files are gone at the end of the block.

    Raises ApiError: 400, 413 for one that is too large, 429 or 503 for one too many at the same time.
    """
    given = request.headers.get("content-length")
    if given is not None and not (given.isascii() and given.isdigit()):
        raise ApiError(400, "content-length: it is no number")
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
    """End a body that is larger than it says, or says nothing (chunked), when it is too large."""
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
