"""The GPU operator, for a pool whose GPUs are cut in seven slices each."""

from cogniforge.cluster.gpu_models import GpuModel
from cogniforge.cluster.gpu_operator import GpuOperator

operator = GpuOperator(
    "gpus",
    {
        "pools": [{"name": "shared", "gpu": GpuModel.H100_80, "gpus_per_node": 8, "mig": "all-1g.10gb"}],
        "preinstalled": False,
    },
)
