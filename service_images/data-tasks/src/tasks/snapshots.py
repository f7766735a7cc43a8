"""Task for the secret store's snapshots: saves one in the object store, lists them, or restores one.

A snapshot is a gzip'd tar archive of the store's encrypted content. The archive contains checksums of its files, which
this task checks after writing and before restoring. Restoring replaces the whole content of the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import ssl
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import urllib3
from minio import Minio
from minio.error import S3Error

from tasks import objects
from tasks.common import Problem, patiently, wanted

ROLE, OPERATOR = "platform.snapshots", "platform.operator"
"""Roles in the secret store: the first reads snapshots, the second restores them."""
LOGIN = "secret-store-snapshots"
"""Login at the object store."""
NEVER_DELETED = 3
"""Number of newest snapshots that are kept whatever their age: a store that was away for long keeps its last ones."""
_SUFFIX, _FORMAT = ".snap", "%Y%m%dT%H%M%SZ"
_PART = 10 * 2**20
_TOKENS = Path("/var/run/secrets/cogniforge/tokens")
_SUMS = "SHA256SUMS"
_AWAY = (urllib3.exceptions.HTTPError, OSError)


def main() -> str:
    """Run the action in ACTION: take, list, or restore (NAME, or the newest). Returns the result for the log."""
    action = os.environ.get("ACTION", "take")
    try:
        if action == "list":
            found = patiently("the object store cannot be used", lambda: _all(_objects()), S3Error, *_AWAY)
            return "\n".join([f"{len(found)} snapshots", *found])
        return restore(os.environ.get("NAME", "")) if action == "restore" else take()
    except (S3Error, *_AWAY) as error:
        raise Problem(f"the object store: {error}") from None


def take() -> str:
    """Save a snapshot, read it back, and delete expired ones."""
    store, place = Store(ROLE, _token()), _objects()
    _reachable(store, place)
    name = f"{datetime.now(UTC):{_FORMAT}}{_SUFFIX}"
    with store.session(), store.stream("sys/storage/raft/snapshot") as content:
        # An answer that breaks off raises an error here, and no object is made.
        place.put_object(_bucket(), name, content, length=-1, part_size=_PART)
    try:
        size = _checked(place, name)
    except Problem:
        place.remove_object(_bucket(), name)
        raise
    expired = _expired(_all(place), timedelta(days=int(wanted()["keep_days"])), datetime.now(UTC))
    for old in expired:
        place.remove_object(_bucket(), old)
    return f"saved {name}, {size} bytes; deleted {', '.join(expired) or 'none'}"


def restore(name: str) -> str:
    """Replace the content of the store by a snapshot's. An empty `name` means the newest."""
    place = _objects()
    store = Store(OPERATOR, Path(os.environ["OPERATOR_TOKEN"]).read_text().strip())
    _reachable(store, place)
    there = _all(place)
    chosen = name or (there[-1] if there else "")
    if chosen not in there:
        raise Problem(f"there is no snapshot {chosen or 'at all'}; there are: {', '.join(there) or 'none'}")
    _checked(place, chosen)
    with store.session(), contextlib.closing(place.get_object(_bucket(), chosen)) as content:
        store.send("sys/storage/raft/snapshot", content)
    patiently("the store does not answer after the restore", store.healthy, Problem)
    return f"restored {chosen}"


def _reachable(store: Store, place: Minio) -> None:
    """Wait until both servers answer: network policies take effect a little after a pod's start."""
    patiently("the secret store cannot be used", store.healthy, Problem)
    patiently("the object store cannot be used", lambda: _all(place), S3Error, *_AWAY)


def _expired(names: list[str], age: timedelta, now: datetime) -> list[str]:
    """Names of snapshots that are older than `age`, except the newest three."""
    return [name for name in names[:-NEVER_DELETED] if now - _moment(name) > age]


def _moment(name: str) -> datetime:
    return datetime.strptime(name.removesuffix(_SUFFIX), _FORMAT).replace(tzinfo=UTC)


def _all(place: Minio) -> list[str]:
    """Names of all snapshots, oldest first. Other objects, such as those of checks, are left alone."""
    found: list[str] = []
    for one in place.list_objects(_bucket()):
        with contextlib.suppress(ValueError):
            _moment(name := str(one.object_name))
            found.append(name)
    return sorted(found)


def _checked(place: Minio, name: str) -> int:
    """Check the archive's checksums; returns the size in bytes. Raises Problem for a damaged archive."""
    sums: dict[str, str] = {}
    found: dict[str, str] = {}
    with contextlib.closing(place.get_object(_bucket(), name)) as content:
        size = int(content.headers.get("Content-Length", 0))
        try:
            with tarfile.open(fileobj=cast("Any", content), mode="r|gz") as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    if file is None:
                        continue
                    if member.name == _SUMS:
                        lines = (line.split() for line in file.read().decode().splitlines())
                        sums = {words[1]: words[0] for words in lines if len(words) == 2}
                    else:
                        found[member.name] = hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
        except (tarfile.TarError, EOFError, OSError, UnicodeDecodeError) as error:
            raise Problem(f"snapshot {name} is damaged: {error}") from None
    if not sums or any(found.get(file) != digest for file, digest in sums.items()):
        raise Problem(f"snapshot {name} is damaged: its checksums do not match")
    return size


def _objects() -> Minio:
    return objects.role_client(wanted()["REGION"]) if wanted().get("by_role") else objects.client(LOGIN)


def _bucket() -> str:
    return str(wanted()["bucket"])


def _token() -> str:
    return (_TOKENS / "secret-store").read_text().strip()


class Store:
    """A client of the secret store in one role."""

    def __init__(self, role: str, token: str) -> None:
        """`token`: of the service account that the role is bound to."""
        self._role, self._account, self._address = role, token, os.environ["STORE_ADDRESS"]
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(30),
            retries=False,
            ssl_context=ssl.create_default_context(cadata=os.environ["STORE_AUTHORITY"]),
        )
        self._headers: dict[str, str] = {}

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Logged in at the active server, which alone has snapshots; the token is revoked at the end."""
        self._address = json.loads(self._ask("GET", "sys/leader").data)["leader_address"] or self._address
        asked = json.dumps({"role": self._role, "jwt": self._account}).encode()
        answer = self._ask("POST", "auth/kubernetes/login", asked)
        self._headers = {"X-Vault-Token": json.loads(answer.data)["auth"]["client_token"]}
        try:
            yield
        finally:
            # After a restore, the store no longer knows the token.
            with contextlib.suppress(Problem):
                self._ask("POST", "auth/token/revoke-self", b"")
            self._headers = {}

    @contextlib.contextmanager
    def stream(self, path: str) -> Iterator[Any]:
        """The answer's content, as it arrives."""
        answer = self._ask("GET", path, preload_content=False)
        try:
            yield answer
        finally:
            answer.release_conn()

    def send(self, path: str, content: Any) -> None:
        """Send content of any size. Raises Problem if it is refused."""
        self._ask("POST", path, content)

    def healthy(self) -> None:
        """Raises Problem while no unsealed server answers."""
        self._ask("GET", "sys/health?standbyok=true")

    def _ask(self, method: str, path: str, body: Any = None, **more: Any) -> urllib3.BaseHTTPResponse:
        url = f"{self._address}/v1/{path}"
        try:
            answer = self._pool.request(method, url, body=body, headers=self._headers, redirect=False, **more)
        except _AWAY as error:
            raise Problem(f"the secret store does not answer: {error}") from None
        if answer.status >= 300:
            raise Problem(
                f"the secret store refuses {path}: {answer.status} {answer.data.decode(errors='replace')[:500]}"
            )
        return answer
