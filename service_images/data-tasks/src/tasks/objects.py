"""Task for the object store: creates accounts and buckets. Then checks that only a bucket's owner can use it."""

from __future__ import annotations

import functools
import hashlib
import io
import urllib.parse
import uuid
from datetime import UTC, datetime
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import urllib3
from minio import Minio
from minio.credentials import Credentials, IamAwsProvider
from minio.error import S3Error
from minio.signer import sign_v4_s3

from tasks.common import Problem, endpoint, password, patiently, wanted

OWNER, REGION = "objects", "us-east-1"


def main() -> None:
    """Run the task."""
    asked: dict[str, str] = wanted()["buckets"]
    if wanted().get("by_role"):
        _at_aws(sorted(asked))
        return
    root = client(OWNER)
    patiently("the server does not answer", root.list_buckets, urllib3.exceptions.HTTPError, S3Error)
    for user in sorted(set(asked.values())):
        _account(user)
    for user in _accounts() - set(asked.values()):
        _admin("delete-user", f"access={urllib.parse.quote(user)}", "")
        print(f"{user} has no account any more; its buckets are kept", flush=True)
    for bucket, owner in asked.items():
        if not root.bucket_exists(bucket):
            root.make_bucket(bucket)
        _admin("change-bucket-owner", f"bucket={bucket}&owner={owner}", "")
    for bucket, owner in asked.items():
        _check(bucket, owner)
        for other in set(asked.values()) - {owner}:
            _refused(bucket, other)


def _at_aws(buckets: list[str]) -> None:
    """Check buckets in Amazon S3. Pulumi has created them and their permissions."""
    found = role_client(wanted()["REGION"])
    failures = (S3Error, urllib3.exceptions.HTTPError, ValueError, OSError)
    for bucket in buckets:
        name = f"{wanted()['PREFIX']}{bucket}"
        # A new IAM role takes effect after some seconds.
        patiently(f"{name} cannot be used", functools.partial(_round_trip, found, name), *failures)


def role_client(region: str) -> Minio:
    """A client of Amazon S3 that authenticates with the pod's IAM role."""
    return Minio(urllib.parse.urlsplit(endpoint()).netloc, credentials=IamAwsProvider(), region=region, secure=True)


def client(login: str) -> Minio:
    """A client of the object store with a login's password."""
    parts = urllib.parse.urlsplit(endpoint())
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(10), retries=False)
    return Minio(
        parts.netloc,
        access_key=login,
        secret_key=password(login, "objects"),
        secure=parts.scheme == "https",
        region=REGION,
        http_client=pool,
    )


def _admin(call: str, query: str, body: str) -> tuple[int, str]:
    """Call Versity's administration API. Requests are signed like S3 requests."""
    url = urllib.parse.urlsplit(f"{endpoint()}/{call}" + (f"?{query}" if query else ""))
    now, digest = datetime.now(UTC), hashlib.sha256(body.encode()).hexdigest()
    headers = {"Host": url.netloc, "X-Amz-Date": now.strftime("%Y%m%dT%H%M%SZ"), "X-Amz-Content-Sha256": digest}
    signed = sign_v4_s3(
        method="PATCH",
        url=url,
        region=REGION,
        headers=headers,
        credentials=Credentials(OWNER, password(OWNER, "objects")),
        content_sha256=digest,
        date=now,
    )
    answer = urllib3.PoolManager().request("PATCH", url.geturl(), headers=signed, body=body.encode(), timeout=10)
    text = answer.data.decode(errors="replace")
    if answer.status >= 400 and "already exist" not in text.lower() and "UserExists" not in text:
        raise Problem(f"{call}: {answer.status} {text[:300]}")
    return answer.status, text


def _accounts() -> set[str]:
    """All accounts of the server except the owner's, which the server has from its settings."""
    _, text = _admin("list-users", "", "")
    return {found for one in ElementTree.fromstring(text).iter() if _tag(one) == "Access" and (found := one.text)}


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _account(user: str) -> None:
    secret = escape(password(user, "objects"))
    fields = f"<Access>{escape(user)}</Access><Secret>{secret}</Secret><Role>user</Role>"
    _, text = _admin("create-user", "", f"<Account>{fields}</Account>")
    if text:  # the account exists; its password may have changed
        changed = f"<MutableProps><Secret>{secret}</Secret></MutableProps>"
        _admin("update-user", f"access={user}", changed)


def _check(bucket: str, owner: str) -> None:
    _round_trip(client(owner), bucket)


def _round_trip(client: Minio, bucket: str) -> None:
    name, content = f".check/{uuid.uuid4().hex}", uuid.uuid4().bytes
    client.put_object(bucket, name, io.BytesIO(content), len(content))
    answer = client.get_object(bucket, name)
    if answer.read() != content:
        raise Problem("the object that was read differs from the one that was written")
    answer.close()
    client.remove_object(bucket, name)


def _refused(bucket: str, other: str) -> None:
    try:
        list(client(other).list_objects(bucket))
    except S3Error as error:
        if error.code == "AccessDenied":
            return
        raise Problem(f"{other} at {bucket}: {error}") from None
    raise Problem(f"{other} can list {bucket}")
