"""`forge footprint`: figures of parts from what kubelets report."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli import footprint, telemetry_volume
from cli.documents import FootprintDocument, PartFootprint, TelemetryVolume
from components.config.profile import Profile
from local.errors import LocalError
from tests.unit.test_cli_output import Run, golden, run

__all__ = ["run"]
MIB = 2**20
MEASURED = footprint.Footprint("local", Profile.CORE, 60, [], datetime(2026, 11, 27, tzinfo=UTC))


def pod(name: str, part: str, *images: str, started: str = "10:00:00", ready: str = "10:00:07") -> dict[str, Any]:
    day = "2026-11-27T{}Z"
    return {
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": part}},
        "spec": {"containers": [{"name": image, "image": image} for image in images]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": day.format(ready)}],
            "containerStatuses": [{"state": {"running": {"startedAt": day.format(started)}}} for _ in images],
        },
    }


def usage(name: str, at: str, cpu_s: float, memory_mib: int = 0, uid: str = "1", **volume: Any) -> dict[str, Any]:
    return {
        "podRef": {"name": name, "namespace": "cogniforge", "uid": uid},
        "cpu": {"time": f"2026-11-27T{at}Z", "usageCoreNanoSeconds": int(cpu_s * 1e9)},
        "memory": {"workingSetBytes": memory_mib * MIB},
        "volume": [volume] if volume else [],
    }


def measured(pods: list[Any], before: list[Any], after: list[Any], **more: Any) -> list[footprint.Part]:
    by_name = ({one["podRef"]["name"]: one for one in found} for found in (before, after))
    return footprint.parts(pods, *by_name, more.get("images", {}), more.get("volumes", {}))


def test_figures_are_sums_over_a_parts_pods() -> None:
    pods = [pod("r-1", "router", "router"), pod("r-2", "router", "router", "sidecar", ready="10:00:31")]
    before = [usage("r-1", "10:01:00", 1), usage("r-2", "10:01:05", 1)]
    after = [usage("r-1", "10:02:00", 7, 50), usage("r-2", "10:02:05", 4, 60)]
    (part,) = measured(pods, before, after, images={"router": 100.0, "sidecar": 20.0, "other": 5.0})
    assert (part.name, part.pods, part.cpu_m, part.memory_mib) == ("router", 2, 150, 110)
    assert part.images == {"router": 100, "sidecar": 20}
    assert part.start_s == 31


def test_a_pod_that_was_replaced_meanwhile_has_no_cpu_usage() -> None:
    before, after = usage("kafka-0", "10:01:00", 90), usage("kafka-0", "10:02:00", 2, 400, uid="2")
    (part,) = measured([pod("kafka-0", "kafka", "kafka")], [before], [after])
    assert (part.cpu_m, part.memory_mib) == (0, 400)


def test_a_volume_of_this_machine_counts_its_folder_and_not_the_whole_disk() -> None:
    volume = {"pvcRef": {"name": "data-kafka-0"}, "usedBytes": 500 * MIB}
    after = usage("kafka-0", "10:02:00", 2, **volume)
    for volumes, used in (({"data-kafka-0": 12.0}, 12), ({}, 500)):
        (part,) = measured([pod("kafka-0", "kafka", "kafka")], [], [after], volumes=volumes)
        assert part.disk_mib == used


def test_a_pod_that_is_not_ready_has_no_start_time() -> None:
    waiting = pod("user-1", "user", "user")
    waiting["status"]["conditions"][0]["status"] = "False"
    (part,) = measured([waiting], [], [])
    assert part.start_s is None


def test_a_file_that_disappears_while_a_volume_is_measured_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a").write_bytes(b"x" * 8192)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert 8192 <= footprint.folder_bytes(tmp_path) <= 16384


def test_spans_count_for_the_service_that_made_them() -> None:
    processes = {"p1": {"serviceName": "router"}, "p2": {"serviceName": "billing"}}
    spans = [{"processID": "p1", "a": "xx"}, {"processID": "p2"}, {"processID": "p1"}]
    found = telemetry_volume.by_service([{"processes": processes, "spans": spans}])
    assert found["billing"] == len('{"processID":"p2"}')
    assert found["router"] == len('{"processID":"p1","a":"xx"}{"processID":"p1"}')


@pytest.mark.parametrize(("idle", "each", "daily"), [(0, 1024, 843.75), (1024, 0, 84.375)])
def test_telemetry_a_day_is_what_is_written_at_rest_and_for_each_request(idle: float, each: int, daily: float) -> None:
    one = TelemetryVolume(part="router", signal="logs", idle_bytes_per_second=idle, bytes_per_request=each)
    assert footprint.daily_mib(one, 10) == pytest.approx(daily)


def found(profile: Profile | None = Profile.CORE) -> FootprintDocument:
    made = PartFootprint(
        name="router", pods=2, cpu_millicores=13, memory_mib=112, disk_mib=0, image_mib=116, start_seconds=6
    )
    kafka = made.model_copy(update={"name": "kafka", "disk_mib": 140, "start_seconds": None})
    logs = TelemetryVolume(part="router", signal="logs", idle_bytes_per_second=12.5, bytes_per_request=640)
    return FootprintDocument(
        stack="local",
        profile=profile.value if profile else None,
        seconds=60,
        image_mib=116,
        parts=[kafka, made],
        telemetry=[logs],
    )


@pytest.mark.parametrize(("name", "arguments"), [("footprint.txt", []), ("footprint.json", ["-o", "json"])])
def test_the_command(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str]) -> None:
    monkeypatch.setattr(footprint, "collect", lambda *_: MEASURED)
    monkeypatch.setattr(telemetry_volume, "collect", lambda *_: [])
    monkeypatch.setattr(footprint, "document", lambda *_: found())
    golden(name, run("footprint", "--requests", "100", *arguments))


def test_figures_replace_those_of_the_same_profile(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    for one in (found(Profile.FULL), found(), found().model_copy(update={"seconds": 90.0})):
        footprint.save(one, file)
    kept = json.loads(file.read_text())
    assert list(kept) == ["core", "full"] and kept["core"]["seconds"] == 90


def test_figures_without_a_profile_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="has no profile"):
        footprint.save(found(None), tmp_path / "figures.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_another_file_stays(tmp_path: Path, content: str) -> None:
    file = tmp_path / "figures.json"
    file.write_text(content)
    with pytest.raises(LocalError, match="cannot be written"):
        footprint.save(found(), file)
    assert file.read_text() == content
