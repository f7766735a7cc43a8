"""The S3 gateway reads the root account's secret from a file."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from minio import Minio
from minio.error import S3Error

from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from service_images.serving import served

pytestmark = pytest.mark.integration
SECRET = "secret-of-the-root-account"


def _client(port: int, secret: str) -> Minio:
    return Minio(f"127.0.0.1:{port}", access_key="objects", secret_key=secret, secure=False, region="us-east-1")


def test_the_root_account_has_the_secret_of_the_file(tmp_path: Path) -> None:
    file, port = tmp_path / "root", free_port()
    file.write_text(f"{SECRET}\n")
    for name in ("buckets", "accounts"):
        (tmp_path / name).mkdir()
    program = builder.resolve(ToolName.OBJECT_STORE)
    root = ("--access", "objects", "--secret-file", str(file), "--port", f"127.0.0.1:{port}")
    flags = ("--health", "/healthz", "--quiet", "--iam-dir", str(tmp_path / "accounts"), str(tmp_path / "buckets"))
    with served([program, *root, *flags], {}, f"http://127.0.0.1:{port}/healthz", starts_s=60) as process:
        client = _client(port, SECRET)
        client.make_bucket("notes")
        client.put_object("notes", "a", io.BytesIO(b"text"), 4)
        assert client.get_object("notes", "a").read() == b"text"
        with pytest.raises(S3Error):
            _client(port, "another").list_objects("notes").__next__()
        for shown in ("environ", "cmdline"):
            assert SECRET.encode() not in Path(f"/proc/{process}/{shown}").read_bytes()


@pytest.mark.parametrize(("content", "said"), [(None, "no such file"), (" \n", "is empty")])
def test_without_a_secret_it_does_not_start(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "root").write_text(content)
    command = [
        builder.resolve(ToolName.OBJECT_STORE),
        "--access=objects",
        f"--secret-file={tmp_path / 'root'}",
        tmp_path,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and said in ended.stderr
