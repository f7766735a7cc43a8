"""The state of a node's GPUs according to DCGM's exporter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.gpu_state import parse

METRICS = """\
# HELP DCGM_FI_DEV_FB_USED Framebuffer memory used (in MiB).
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",device="nvidia0",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7",pod="p",namespace="a"} 12
DCGM_FI_DEV_FB_USED{gpu="0",device="nvidia0",GPU_I_PROFILE="1g.10gb",GPU_I_ID="8"} 0
DCGM_FI_DEV_FB_USED{gpu="0",device="nvidia0",GPU_I_PROFILE="3g.40gb",GPU_I_ID="1",pod="q",namespace="b"} 9
DCGM_FI_DEV_FB_USED{gpu="1",device="nvidia1",pod="r",namespace="b"} 9
# TYPE DCGM_FI_DEV_GPU_TEMP gauge
DCGM_FI_DEV_GPU_TEMP{gpu="0",device="nvidia0",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7",pod="p",namespace="a"} 40
"""


def test_slices_are_counted_once_however_many_metrics_there_are() -> None:
    assert parse(METRICS, 2).layouts == [(("1g.10gb", 2), ("3g.40gb", 1)), ()]


def test_pods_are_distinguished_by_gpu() -> None:
    assert parse(METRICS, 2).users == {0: ("a/p", "b/q"), 1: ("b/r",)}


def test_a_gpu_that_is_not_reported_is_an_error() -> None:
    with pytest.raises(ValueError, match="the metrics lack GPU 2"):
        parse(METRICS, 3)


def test_a_gpu_too_many_is_an_error() -> None:
    with pytest.raises(ValueError, match="contain GPU 1, but the pool's nodes have 1"):
        parse(METRICS, 1)


@given(st.text())
def test_anything_else_is_an_error_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse(text, 1)
    assert str(refused.value)
