"""What NATS' process for logins keeps on its volume over a restart."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from local import paths

sys.path[:0] = [str(paths.PROJECT / "service_images" / part / "src") for part in ("kit", "data-tasks")]

from tasks.nats_logins import Registry  # noqa: E402

KEPT = '{"billing.0123456789abcdef": {"sha256": "%s", "until": 4000000000.0}}' % ("0" * 64)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"a": 1}', '{"a": {"value": "0", "until": 1}}', "\ufffd"])
def test_a_damaged_file_or_one_of_another_release_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    kept = tmp_path / "known.json"
    kept.write_text(content)
    store: Any = None
    assert Registry(store, kept).known == {}
    assert "is not used" in capsys.readouterr().out


def test_known_logins_are_there_again(tmp_path: Path) -> None:
    kept = tmp_path / "known.json"
    store: Any = None
    assert Registry(store, kept).known == {}
    kept.write_text(KEPT)
    assert [*Registry(store, kept).known] == ["billing.0123456789abcdef"]
