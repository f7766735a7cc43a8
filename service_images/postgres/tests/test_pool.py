"""The pool in front of an external server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pgnode import pool


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the pool's main with some variables. Returns the configuration of PgBouncer."""
    read: list[str] = []

    def run(**variables: str) -> dict[str, str]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(pool, "_listed", lambda file: file)
        monkeypatch.setattr(pool.os, "execv", lambda program, command: read.append(Path(command[1]).read_text()))
        pool.main()
        return dict(line.split(" = ", 1) for line in read[-1].splitlines() if " = " in line)

    return run


def test_a_server_elsewhere_shows_a_certificate_for_its_name(started: Any) -> None:
    settings = started(POOL_SERVER="db.example.com:5432")
    assert settings["server_tls_sslmode"] == "verify-full"
    assert settings["server_tls_ca_file"] == str(pool.AUTHORITIES)


def test_the_authorities_of_rds_are_current_for_years() -> None:
    found = x509.load_pem_x509_certificates(pool.AUTHORITIES.read_bytes())
    assert len(found) > 20
    for certificate in found:
        assert certificate.issuer == certificate.subject
        assert "Amazon RDS" in certificate.subject.rfc4514_string()
        assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=365)
