"""The section of a model that is served on GPUs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import model_validator

from components.config.base import Change, DnsLabel, Section, matching, setting
from components.config.problems import violation


class Quantization(StrEnum):
    """Number format of stored weights. Source: vLLM's `--quantization`."""

    NONE = "none"
    FP8 = "fp8"
    AWQ = "awq"
    GPTQ = "gptq"


class DataType(StrEnum):
    """Number format of weights and activations in computation."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Scaling(Section):
    """When inference servers are added and removed. Both thresholds are per server."""

    max_replicas: int = setting(Change.SAFE, "Maximum number of servers", default=4, ge=1, le=200)
    queue_depth: int = setting(
        Change.SAFE, "Queued requests per server above which a server is added", default=8, ge=1, le=1000
    )
    tokens_per_second: int = setting(
        Change.SAFE,
        "Generated tokens per second per server above which a server is added",
        default=2000,
        ge=1,
        le=1_000_000,
    )
    idle_seconds: int = setting(
        Change.SAFE, "Seconds of low load before servers are removed", default=300, ge=30, le=86_400
    )
    to_zero: bool = setting(Change.SAFE, "Whether the last server is removed, too", default=False)


class Canary(Section):
    """Canary release of new weights: they get a share of the requests."""

    weights: Annotated[
        str,
        matching(
            r"(hf://[\w.-]+/[\w.:-]+|s3://[a-z0-9.-]+/.+|pvc://.+|oci://.+)",
            "an hf://, s3://, pvc:// or oci:// address",
            'write it like "hf://org/model"',
        ),
    ] = setting(Change.SAFE, "Address of the new weights")
    percent: int = setting(Change.SAFE, "Percentage of requests for the new weights", default=10, ge=1, le=99)


class Serving(Section):
    """A model on GPUs: weights, slices, engine arguments, scaling."""

    weights: Annotated[
        str,
        matching(
            r"(hf://[\w.-]+/[\w.:-]+|s3://[a-z0-9.-]+/.+|pvc://.+|oci://.+)",
            "an hf://, s3://, pvc:// or oci:// address",
            'write it like "hf://meta-llama/Llama-3.1-8B-Instruct"',
        ),
    ] = setting(Change.DISRUPTIVE, "Address of the weights")
    gpu_pool: DnsLabel = setting(Change.DISRUPTIVE, "Name of the pool in cluster.gpuPools that the model runs in")
    slice: str = setting(Change.DISRUPTIVE, 'MIG profile such as "3g.40gb", or "gpu" for whole GPUs', default="gpu")
    gpus: int = setting(Change.DISRUPTIVE, "GPUs or slices per server", default=1, ge=1, le=16)
    nodes: int = setting(Change.DISRUPTIVE, "Nodes per server", default=1, ge=1, le=16)
    memory_fraction: float = setting(
        Change.DISRUPTIVE, "Share of the GPU's memory that the engine reserves", default=0.9, ge=0.1, le=0.98
    )
    max_sequences: int = setting(Change.DISRUPTIVE, "Most requests in one batch", default=256, ge=1, le=4096)
    data_type: DataType = setting(
        Change.DISRUPTIVE, "Number format: auto, bfloat16 or float16", default=DataType.AUTO, strict=False
    )
    quantization: Quantization = setting(
        Change.DISRUPTIVE,
        "Quantization of the weights: none, fp8, awq or gptq",
        default=Quantization.NONE,
        strict=False,
    )
    prefix_caching: bool = setting(
        Change.DISRUPTIVE, "Whether the engine caches common prefixes of prompts", default=True
    )
    cache_gib: int = setting(
        Change.DISRUPTIVE,
        "Space in GiB for the weights on the nodes' disks; 0 disables this cache",
        default=0,
        ge=0,
        le=4096,
    )
    scaling: Scaling = setting(Change.SAFE, "When servers are added and removed", default=Scaling())
    canary: Canary | None = setting(Change.SAFE, "Canary release of new weights", default=None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.slice != "gpu" and self.gpus > 1:
            raise violation(
                "a MIG slice cannot be joined with another (no NVLink between slices)",
                "set gpus: 1 with a larger slice, or slice: gpu",
            )
        if self.nodes > 1 and self.slice != "gpu":
            raise violation("a server over several nodes needs whole GPUs", "set slice: gpu")
        if self.nodes > 1 and self.scaling.to_zero:
            raise violation("scale to zero works for servers on one node", "set scaling.toZero: false")
        return self
