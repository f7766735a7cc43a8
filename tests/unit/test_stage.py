"""The stage of an environment: given by its file, or else by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.crossguard import stage as stages


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("europe", "config: {'cogniforge:platform': {environment: staging}}", "staging"),
        ("dev-eu", "config: {'cogniforge:platform': {environment: prod}}", "prod"),
        ("dev-eu", None, "dev"),
        ("europe", None, "prod"),
        ("europe", "config: [", "prod"),
        ("europe", "config: {'cogniforge:platform': {environment: nonsense}}", "prod"),
    ],
)
def test_the_stage_of_an_environment(
    name: str, content: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "STACKS", tmp_path)
    stages.stage.cache_clear()
    if content is not None:
        (tmp_path / f"Pulumi.{name}.yaml").write_text(content)
    assert stages.stage(name) == expected
    stages.stage.cache_clear()
