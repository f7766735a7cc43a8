"""MIG layouts, compared with the GPUs' capacity and with upstream's list of layouts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.cluster import mig
from components.cluster.gpu_models import GPUS, Gpu, GpuModel
from components.cluster.mig_plan import repartition
from tests import upstream

MIG_GPUS = [gpu for gpu in GPUS.values() if gpu.profiles]


def _upstream() -> dict[str, list[dict[str, Any]]]:
    return yaml.safe_load(upstream.unpackaged("crds/mig-parted/config-default.yaml").read_text())["mig-configs"]


def _matches(entry: dict[str, Any], gpu: Gpu) -> bool:
    wanted = entry.get("device-filter")
    return wanted is None or bool(set([wanted] if isinstance(wanted, str) else wanted) & set(gpu.pci_ids))


@pytest.mark.parametrize("gpu", MIG_GPUS, ids=lambda g: g.model)
def test_named_layouts_of_a_gpu_are_upstreams(gpu: Gpu) -> None:
    upstream = _upstream()
    names = ["all-balanced", *(mig.layout_name(p) for p in gpu.profiles)]
    found = {n: next((e["mig-devices"] for e in upstream[n] if _matches(e, gpu)), None) for n in names if n in upstream}
    assert {n: mig.named_layout(gpu, n) for n in found} == found


def test_most_named_layouts_are_known_upstream() -> None:
    upstream = _upstream()
    names = {mig.layout_name(p) for gpu in MIG_GPUS for p in gpu.profiles}
    assert names - upstream.keys() <= {"all-2g.12gb.me", "all-1g.23gb.me"}


@pytest.mark.parametrize("gpu", MIG_GPUS, ids=lambda g: g.model)
def test_every_profile_fits_as_often_as_its_limit(gpu: Gpu) -> None:
    assert all(mig.place(gpu.model, ((p.name, p.limit),)) for p in gpu.profiles)


@pytest.mark.parametrize("gpu", MIG_GPUS, ids=lambda g: g.model)
def test_no_profile_fits_more_often_than_its_limit(gpu: Gpu) -> None:
    assert not any(mig.place(gpu.model, ((p.name, p.limit + 1),)) for p in gpu.profiles)


layouts = st.sampled_from(MIG_GPUS).flatmap(
    lambda gpu: st.tuples(
        st.just(gpu),
        st.dictionaries(st.sampled_from([p.name for p in gpu.profiles]), st.integers(1, 4), min_size=1, max_size=3),
    )
)


def _brute_force(gpu: Gpu, counts: dict[str, int]) -> bool:
    """Reference implementation: tries all placements, without order or pruning."""
    wanted = [p for n, c in counts.items() for p in [gpu.profile(n)] * c if p]
    if sum(p.compute for p in wanted) > gpu.compute_slices or sum(p.name.endswith("+me") for p in wanted) > 1:
        return False
    if sum(p.span for p in wanted) > gpu.memory_slices:
        return False
    for starts in itertools.product(*(p.starts for p in wanted)):
        cells = [cell for p, s in zip(wanted, starts, strict=True) for cell in range(s, s + p.span)]
        if len(cells) == len(set(cells)):
            return True
    return False


@given(layouts)
def test_placement_agrees_with_trying_every_start(case: tuple[Gpu, dict[str, int]]) -> None:
    gpu, counts = case
    if sum(counts.values()) > 7:
        return
    assert (mig.place(gpu.model, tuple(sorted(counts.items()))) is not None) == _brute_force(gpu, counts)


@given(layouts)
def test_placed_instances_do_not_overlap(case: tuple[Gpu, dict[str, int]]) -> None:
    gpu, counts = case
    placed = mig.place(gpu.model, tuple(sorted(counts.items()))) or ()
    cells = [cell for p in placed for cell in range(p.start, p.start + p.span)]
    assert len(cells) == len(set(cells))


def test_the_layout_of_the_readme_fits() -> None:
    assert mig.parse(GpuModel.H100_80, 2, {"1g.10gb": 4, "3g.40gb": 1}) == ((("1g.10gb", 4), ("3g.40gb", 1)),) * 2


@pytest.mark.parametrize(
    ("model", "spec", "limit"),
    [
        (GpuModel.H100_80, {"3g.40gb": 2, "1g.10gb": 1}, "takes 7 compute and 9 memory slices"),
        (GpuModel.H100_80, {"4g.40gb": 2}, "holds 1 to 1 of 4g.40gb"),
        (GpuModel.H100_80, {"1g.5gb": 1}, 'no MIG profile "1g.5gb"'),
        (GpuModel.H100_80, "all-1g.5gb", 'no layout "all-1g.5gb"'),
        (GpuModel.L4, {"1g.5gb": 1}, "l4 has no MIG"),
        (GpuModel.H100_80, ["all-balanced"], "one entry per GPU of the node, which has 8; the list has 1"),
        (GpuModel.A30, {"1g.6gb+me": 1, "2g.12gb+me": 1}, "a GPU has one set of media engines"),
        (GpuModel.A30, {"1g.6gb": 1, "1g.6gb+me": 1, "2g.12gb+me": 1}, "a GPU has one set of media engines"),
        (GpuModel.H100_80, {"1g.10gb+me": 2}, "a GPU has one set of media engines"),
        (GpuModel.H100_80, {"1g.10gb": 0}, "holds 1 to 7 of 1g.10gb, not 0"),
        (GpuModel.A100_40, {"7g.40gb": 1, "1g.5gb": 1}, "takes 8 compute"),
    ],
)
def test_an_impossible_layout_is_refused_with_the_reason(model: GpuModel, spec: mig.LayoutSpec, limit: str) -> None:
    with pytest.raises(mig.MigError) as error:
        mig.parse(model, 8, spec)
    assert limit in error.value.limit


def _refusal(gpu: Gpu, counts: dict[str, int]) -> str:
    try:
        mig.parse(gpu.model, 1, counts)
    except mig.MigError as error:
        return error.limit
    return ""


@given(layouts)
def test_a_refusal_names_the_exhausted_limit_only(case: tuple[Gpu, dict[str, int]]) -> None:
    gpu, counts = case
    wanted = [p for n, c in counts.items() for p in [gpu.profile(n)] * c if p]
    if any(p.limit < counts[p.name] for p in wanted):
        return
    reason = _refusal(gpu, counts)
    slices = sum(p.compute for p in wanted) > gpu.compute_slices or sum(p.span for p in wanted) > gpu.memory_slices
    media = sum(p.name.endswith("+me") for p in wanted) > 1
    fits = mig.place(gpu.model, tuple(sorted(counts.items()))) is not None
    assert ("memory slices; " in reason) == slices
    assert ("media engines" in reason) == media
    assert ("fixed positions" in reason) == (not fits and not slices and not media)


def test_strategy_single_offers_plain_gpus() -> None:
    layout = mig.parse(GpuModel.A100_40, 8, "all-1g.5gb")
    assert mig.resources(mig.MigStrategy.SINGLE, layout) == {"nvidia.com/gpu": 56}


def test_strategy_mixed_names_the_slices() -> None:
    layout = mig.parse(GpuModel.H100_80, 2, ["all-balanced", "all-disabled"])
    expected = {"nvidia.com/gpu": 1, "nvidia.com/mig-1g.10gb": 2, "nvidia.com/mig-2g.20gb": 1}
    assert mig.resources(mig.MigStrategy.MIXED, layout) == {**expected, "nvidia.com/mig-3g.40gb": 1}


def test_strategy_single_refuses_two_kinds() -> None:
    with pytest.raises(mig.MigError, match="the same profile"):
        mig.resources(mig.MigStrategy.SINGLE, mig.parse(GpuModel.H100_80, 1, "all-balanced"))


def test_equal_gpus_share_an_entry_of_the_parted_config() -> None:
    layout = mig.parse(GpuModel.H100_80, 3, ["all-1g.10gb", "all-disabled", "all-1g.10gb"])
    assert mig.parted_config(layout) == [
        {"devices": [0, 2], "mig-enabled": True, "mig-devices": {"1g.10gb": 7}},
        {"devices": [1], "mig-enabled": False},
    ]


def test_only_gpus_whose_layout_changes_are_emptied() -> None:
    old = mig.parse(GpuModel.H100_80, 2, ["all-1g.10gb", "all-3g.40gb"])
    new = mig.parse(GpuModel.H100_80, 2, ["all-1g.10gb", "all-2g.20gb"])
    pods = {("node", 0): ["a/stays"], ("node", 1): ["a/moves"]}
    plan = repartition({"node": old}, new, pods)
    assert (plan.evicted, plan.untouched) == (("a/moves",), 1)


def test_the_emptiest_node_comes_first() -> None:
    old, new = (mig.parse(GpuModel.H100_80, 1, n) for n in ("all-1g.10gb", "all-balanced"))
    plan = repartition({"busy": old, "idle": old}, new, {("busy", 0): ["a/b"]})
    assert [step.node for step in plan.steps] == ["idle", "busy"]


@given(st.lists(st.sampled_from(["all-1g.10gb", "all-balanced", "all-disabled"]), min_size=4, max_size=4))
def test_applying_a_plan_gives_the_new_layout(names: list[str]) -> None:
    old, new = mig.parse(GpuModel.H100_80, 4, "all-balanced"), mig.parse(GpuModel.H100_80, 4, names)
    result = list(old)
    for step in repartition({"n": old}, new, {}).steps:
        assert result[step.gpu] == step.before
        result[step.gpu] = step.after
    assert tuple(result) == new
