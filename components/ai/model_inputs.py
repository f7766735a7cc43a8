"""Inputs of a model that is served on GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pydantic import Field

from components.cluster.gpu_inputs import PoolOfModel, PoolOfModelArgs
from components.config.base import ObjectName, Resources
from components.config.gpu import GpuPool
from components.config.models import Model, ModelEngine
from components.config.serving import DataType, Quantization, Serving
from components.inputs import Inputs, ResourcesArgs, Text, same_as
from components.pods import CustomizeArgs

PROMETHEUS = "http://prometheus.observability:9090"


class ScalingArgs(TypedDict):
    """When inference servers are added and removed. Both thresholds are per server."""

    max_replicas: NotRequired[int]
    """Maximum number of servers. Default 4."""
    queue_depth: NotRequired[int]
    """Queued requests above which a server is added. Default 8."""
    tokens_per_second: NotRequired[int]
    """Generated tokens per second above which a server is added. Default 2000."""
    idle_seconds: NotRequired[int]
    """Seconds of low load before servers are removed. Default 300."""
    to_zero: NotRequired[bool]
    """Whether the last server is removed, too. Default false."""


class CanaryArgs(TypedDict):
    """Canary release of new weights."""

    weights: str
    """Address of the new weights: hf://, s3://, pvc:// or oci://."""
    percent: NotRequired[int]
    """Percentage of requests for the new weights. Default 10."""


class ModelServingArgs(CustomizeArgs):
    """Inputs of a served model."""

    namespace: pulumi.Input[str]
    """Namespace in Kubernetes."""
    model: str
    """Name of the model in clients' requests, such as "meta-llama/Llama-3.1-8B-Instruct"."""
    engine: NotRequired[ModelEngine]
    """Inference server. Default "vllm"."""
    replicas: NotRequired[int]
    """Minimum number of inference servers. Default 1."""
    resources: NotRequired[ResourcesArgs]
    """CPU and memory per inference server, beside its GPUs."""
    context_tokens: NotRequired[int]
    """Longest context in tokens. Default 8192."""
    timeout_seconds: NotRequired[int]
    """Longest duration of an answer in seconds. Default 120."""
    weights: str
    """Address of the weights: hf://, s3://, pvc:// or oci://."""
    pool: PoolOfModelArgs
    """The pool of GPUs that the model runs in."""
    slice: NotRequired[str]
    """MIG profile such as "3g.40gb", or "gpu" for whole GPUs. Default "gpu"."""
    gpus: NotRequired[int]
    """GPUs or slices per server. Default 1."""
    nodes: NotRequired[int]
    """Nodes per server. Default 1."""
    memory_fraction: NotRequired[float]
    """Share of the GPU's memory that the engine reserves. Default 0.9."""
    max_sequences: NotRequired[int]
    """Most requests in one batch. Default 256."""
    data_type: NotRequired[DataType]
    """Number format of weights and activations. Default "auto"."""
    quantization: NotRequired[Quantization]
    """Number format of stored weights. Default "none"."""
    prefix_caching: NotRequired[bool]
    """Whether the engine caches common prefixes of prompts. Default true."""
    cache_gib: NotRequired[int]
    """Space in GiB for the weights on the nodes' disks; 0 disables this cache. Default 0."""
    scaling: NotRequired[ScalingArgs]
    """When servers are added and removed."""
    canary: NotRequired[CanaryArgs]
    """Canary release of new weights. Default: none."""
    callers: NotRequired[Sequence[str]]
    """Values of app.kubernetes.io/name whose pods may connect. Default: none."""
    image: pulumi.Input[str]
    """Image of the engine, by digest."""
    key_secret: pulumi.Input[str]
    """Name of the Secret whose entry "key" holds the key that callers need."""
    prometheus: NotRequired[str]
    """URL of Prometheus for KEDA's queries. Default "http://prometheus.observability:9090"."""


class ModelServingInputs(Inputs, Serving):
    """What `ModelServingArgs` may hold."""

    namespace: Text = Field(description="Namespace in Kubernetes")
    model: str = same_as(Model, "name")
    engine: ModelEngine = Field(
        default=ModelEngine.VLLM, strict=False, description="Inference server: simulator, vllm or tgi"
    )
    replicas: int = same_as(Model, "replicas")
    resources: Resources = same_as(Model, "resources")
    context_tokens: int = same_as(Model, "context_tokens")
    timeout_seconds: int = same_as(Model, "timeout_seconds")
    gpu_pool: str = Field(default="", exclude=True, description="In the stack file; here it is `pool`")
    pool: PoolOfModel = Field(description="The pool of GPUs that the model runs in")
    callers: list[ObjectName] = Field(default_factory=list[str], description="Pods that may connect")
    image: Text = Field(description="Image of the engine, by digest")
    key_secret: Text = Field(description='Name of the Secret whose entry "key" holds the key that callers need')
    prometheus: str = Field(default=PROMETHEUS, min_length=1, description="URL of Prometheus for KEDA's queries")
    customize: Any = Field(default=None, description="Settings of the pods")

    @property
    def served(self) -> Model:
        """The model, as in the stack file."""
        of_model = {"engine", "replicas", "resources", "context_tokens", "timeout_seconds"}
        serving = Serving.model_construct(**{name: getattr(self, name) for name in Serving.model_fields})
        found = {name: getattr(self, name) for name in of_model}
        return Model.model_construct(name=self.model, serving=serving, **found)


def args_of(model: Model, pool: GpuPool) -> dict[str, Any]:
    """The inputs that a model of the stack file stands for."""
    serving = model.serving
    assert serving is not None  # the model is served on GPUs
    own = {name: getattr(model, name) for name in ("engine", "replicas", "context_tokens", "timeout_seconds")}
    return {
        **own,
        **serving.model_dump(exclude={"gpu_pool"}),
        "model": model.name,
        "resources": model.resources.model_dump(),
        "pool": {"name": pool.name, "strategy": pool.strategy},
    }
