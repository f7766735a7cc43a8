"""Object storage of a service: its own bucket in the object store, or a local folder."""

from __future__ import annotations

import asyncio
import errno
import io
import urllib.parse
from pathlib import Path
from typing import Protocol

import urllib3
from minio import Minio
from minio.credentials import Credentials, IamAwsProvider, Provider
from minio.error import S3Error

from kit.errors import ApiError, ErrorType
from kit.settings import ServiceSettings

_TIMEOUT_S = 10
_FAILURES = (urllib3.exceptions.HTTPError, ValueError, OSError)
"""Timeout in seconds for the store and for the source of a role's credentials."""


class Objects(Protocol):
    """Objects by name."""

    async def put(self, name: str, content: bytes) -> None:
        """Write an object. Returns once it is stored. Raises ApiError(503)."""
        ...

    async def get(self, name: str) -> bytes:
        """Read an object. Raises ApiError(404) or ApiError(503)."""
        ...

    async def delete(self, name: str) -> None:
        """Delete an object. No effect if it does not exist. Raises ApiError(503)."""
        ...


def objects(settings: ServiceSettings, bucket: str) -> Objects:
    """The storage in the settings: an S3 endpoint, or a file:// folder."""
    parts = urllib.parse.urlsplit(settings.objects_endpoint)
    return _Folder(Path(parts.path)) if parts.scheme == "file" else _S3(settings, parts, bucket)


_FULL = frozenset(("XMinioStorageFull", "InsufficientStorage", "QuotaExceeded"))
"""S3 error codes for full stores. Source: MinIO's cmd/api-errors.go."""


def _away(error: Exception) -> ApiError:
    full = error.code in _FULL if isinstance(error, S3Error) else getattr(error, "errno", None) == errno.ENOSPC
    if full:
        message = "The object store is full; nothing was stored."
        return ApiError(507, message, ErrorType.SERVER, code="storage_full")
    return ApiError(503, f"The object store is unavailable ({type(error).__name__}).", ErrorType.SERVER)


def _missing() -> ApiError:
    return ApiError(404, "The object does not exist.", ErrorType.NOT_FOUND)


class Login(Provider):
    """The service's login for each request, with the current password."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings

    def retrieve(self) -> Credentials:
        """The login."""
        return Credentials(self._settings.name, self._settings.secret("objects_password"))


class _S3:
    def __init__(self, settings: ServiceSettings, parts: urllib.parse.SplitResult, bucket: str) -> None:
        pool = urllib3.PoolManager(timeout=urllib3.Timeout(_TIMEOUT_S), retries=urllib3.Retry(2, backoff_factor=0.1))
        self._bucket = f"{settings.objects_prefix}{bucket}"
        who = Login(settings) if settings.secret("objects_password") else IamAwsProvider()
        self._client = Minio(
            parts.netloc,
            credentials=who,
            secure=parts.scheme == "https",
            region=settings.objects_region,
            http_client=pool,
        )

    async def put(self, name: str, content: bytes) -> None:
        try:
            await asyncio.to_thread(self._client.put_object, self._bucket, name, io.BytesIO(content), len(content))
        except (S3Error, *_FAILURES) as error:
            raise _away(error) from None

    async def get(self, name: str) -> bytes:
        def read() -> bytes:
            answer = self._client.get_object(self._bucket, name)
            try:
                return answer.read()
            finally:
                answer.close()
                answer.release_conn()

        try:
            return await asyncio.to_thread(read)
        except S3Error as error:
            raise (_missing() if error.code == "NoSuchKey" else _away(error)) from None
        except _FAILURES as error:
            raise _away(error) from None

    async def delete(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._client.remove_object, self._bucket, name)
        except (S3Error, *_FAILURES) as error:
            raise _away(error) from None


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / urllib.parse.quote(name, safe="")

    async def put(self, name: str, content: bytes) -> None:
        try:
            await asyncio.to_thread(self._path(name).write_bytes, content)
        except OSError as error:
            raise _away(error) from None

    async def get(self, name: str) -> bytes:
        try:
            return await asyncio.to_thread(self._path(name).read_bytes)
        except FileNotFoundError:
            raise _missing() from None

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._path(name).unlink, True)
