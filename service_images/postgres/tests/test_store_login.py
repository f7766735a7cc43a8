"""Barman's programs get the login for the object store from a file, each time that they start."""

from __future__ import annotations

from pathlib import Path

import botocore.session
import pytest

from components.data.postgres_cluster import STORE_LOGIN


def test_an_aws_sdk_reads_the_login_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, password = tmp_path / "store.aws", tmp_path / "objects"
    config.write_text(STORE_LOGIN)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("BACKUP_LOGIN", "postgres")
    monkeypatch.setenv("STORE_PASSWORD_FILE", str(password))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "src"))
    for value in ("first", "second"):
        password.write_text(f"{value}\n")
        credentials = botocore.session.Session().get_credentials()
        assert credentials is not None
        assert (credentials.access_key, credentials.secret_key) == ("postgres", value)
