"""The services' client of the object store."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest
from kit.errors import ApiError
from kit.objects import objects
from kit.settings import ServiceSettings


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 507), (errno.EIO, 503)])
def test_a_full_store_and_an_unavailable_store_are_different_errors(
    tmp_path: Path, monkeypatch: Any, number: int, status: int
) -> None:
    store = objects(ServiceSettings(objects_endpoint=f"file://{tmp_path}"), "bucket")

    def fail(*_: Any) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ApiError) as caught:
        asyncio.run(store.put("a", b"x"))
    assert caught.value.status == status
