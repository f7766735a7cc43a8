"""A model on GPUs: a KServe InferenceService with vLLM or TGI, which KEDA scales by queue length and token rate."""

from __future__ import annotations

from typing import Any, NamedTuple

import pulumi
import pulumi_kubernetes as k8s

from components import secret_files
from components.ai.model_inputs import ModelServingArgs, ModelServingInputs
from components.ai.model_server import KEY_FILE, KEY_FILE_VARIABLE, part_name
from components.ai.service import NOBODY, network_policy, outlet_spec, peers, restricted, scraper
from components.base import PlatformComponent, labels
from components.cluster import mig
from components.cluster.gpu_inputs import PoolOfModel
from components.config.gpu import GpuPool
from components.config.models import Model, ModelEngine
from components.config.serving import DataType, Quantization, Serving
from components.inputs import checked
from components.pods import Customization, customization, variables

PORT = 8080
DOOR = "model_door.Door"
"""ASGI middleware in our vLLM image. It requires the key on all paths; vLLM itself requires it below /v1 only."""
_SERVING_V1 = "serving.kserve.io/v1beta1"
_RUNTIME = "serving.kserve.io/v1alpha1"
_KSERVE_LABELS = ("app", "component")
_METRICS = {
    ModelEngine.VLLM: ("vllm:num_requests_waiting", "vllm:generation_tokens_total"),
    ModelEngine.TGI: ("tgi_queue_size", "tgi_request_generated_tokens_sum"),
    # The simulator has vLLM's metrics.
    ModelEngine.SIMULATOR: ("vllm:num_requests_waiting", "vllm:generation_tokens_total"),
}
IMAGES = {ModelEngine.VLLM: "vllm", ModelEngine.TGI: "tgi", ModelEngine.SIMULATOR: "inference-sim"}
"""Name of the image by engine."""
"""Metrics (waiting requests, generated tokens) by engine. Sources: metrics references of vLLM and TGI."""


class ModelServingResources(NamedTuple):
    """Resources of a model on GPUs."""

    runtime: k8s.apiextensions.CustomResource
    """ServingRuntime."""
    inference_service: k8s.apiextensions.CustomResource
    scaled_object: k8s.apiextensions.CustomResource
    """KEDA's."""
    cache: k8s.apiextensions.CustomResource | None
    """LocalModelCache, where weights stay on the nodes' disks."""


class ModelServing(PlatformComponent):
    """One model on GPUs: ServingRuntime, InferenceService (raw deployment mode), weights cache, scaling."""

    url: pulumi.Output[str]
    """Base URL inside the cluster."""

    def __init__(self, name: str, args: ModelServingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self._inputs = inputs = checked(ModelServingInputs, self, name, args)
        model, serving, pool = inputs.served, inputs, inputs.pool
        super().__init__("ai", name, {"model": model.name}, opts)
        self._model, self._serving, self._pool = model, serving, pool
        self._part = part_name(model)
        runtime = self._custom("runtime", _RUNTIME, "ServingRuntime", self._part, runtime_spec(model, inputs))
        depends_on: list[pulumi.Resource] = [runtime]
        cache = self._cache() if serving.cache_gib else None
        if cache is not None:
            depends_on.append(cache)
        service = self._custom(
            "service",
            _SERVING_V1,
            "InferenceService",
            self._part,
            service_spec(model, serving, pool, customization(inputs.customize)),
            depends_on,
        )
        scaling = self._custom(
            "scaling",
            "keda.sh/v1alpha1",
            "ScaledObject",
            self._part,
            scaling_spec(model, serving, inputs.prometheus),
            [service],
        )
        self.resources = ModelServingResources(runtime, service, scaling, cache)
        self._network_policies()
        self.url = pulumi.Output.from_input(inputs.namespace).apply(
            lambda namespace: f"http://{self._part}-predictor.{namespace}"
        )
        self.finish(
            {
                "kind": "InferenceService",
                "namespace": inputs.namespace,
                "name": self._part,
                "probe": "GET /v1/models names the model",
            },
            url=self.url,
        )

    def _custom(
        self,
        suffix: str,
        version: str,
        kind: str,
        name: str,
        spec: Any,
        depends_on: list[pulumi.Resource] | None = None,
    ) -> k8s.apiextensions.CustomResource:
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": self._inputs.namespace,
            "labels": labels(self._part, "ai"),
        }
        if kind == "InferenceService":
            # Raw deployment mode: no Knative, and KEDA scales instead of KServe's autoscaler.
            modes = {
                "serving.kserve.io/deploymentMode": "Standard",
                "serving.kserve.io/autoscalerClass": "external",
                # The Router discovers the server. This is the model name that it offers to clients.
                "cogniforge.dev/model": self._model.name,
            }
            metadata["annotations"] = modes
        return k8s.apiextensions.CustomResource(
            f"{self.name}-{suffix}",
            api_version=version,
            kind=kind,
            metadata=metadata,
            spec=spec,
            opts=self.child(depends_on=depends_on or []),
        )

    def _network_policies(self) -> None:
        """Allow the Router and the metrics collector to reach the servers, and the servers to download weights.

        KServe copies the labels of an InferenceService to its pods.
        """
        ports = [{"port": PORT, "protocol": "TCP"}]
        inside = {
            "policy_types": ["Ingress"],
            "ingress": [{"from_": [*peers(self._inputs.callers), scraper()], "ports": ports}],
        }
        policies = {"": inside}
        if not self._serving.weights.startswith("pvc://"):
            policies["-outside"] = outlet_spec([443])
        for suffix, directions in policies.items():
            meta = {
                "name": f"{self._part}{suffix}",
                "namespace": self._inputs.namespace,
                "labels": labels(self._part, "ai"),
            }
            network_policy(f"{self.name}-network{suffix}", meta, self._part, directions, self.child())

    def _cache(self) -> k8s.apiextensions.CustomResource:
        size = f"{self._serving.cache_gib}Gi"
        volume = {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-models"}
        group = k8s.apiextensions.CustomResource(
            f"{self.name}-cache-nodes",
            api_version=_RUNTIME,
            kind="LocalModelNodeGroup",
            metadata={"name": self._part, "labels": labels(self._part, "ai")},
            spec={
                "storageLimit": size,
                "persistentVolumeClaimSpec": {**volume, "resources": {"requests": {"storage": size}}},
                "persistentVolumeSpec": {
                    **volume,
                    "capacity": {"storage": size},
                    "hostPath": {"path": f"/var/lib/models/{self._part}"},
                    "nodeAffinity": {
                        "required": {
                            "nodeSelectorTerms": [
                                {
                                    "matchExpressions": [
                                        {
                                            "key": "cogniforge.dev/gpu-pool",
                                            "operator": "In",
                                            "values": [self._pool.name],
                                        }
                                    ]
                                }
                            ]
                        }
                    },
                },
            },
            opts=self.child(),
        )
        return k8s.apiextensions.CustomResource(
            f"{self.name}-cache",
            api_version=_RUNTIME,
            kind="LocalModelCache",
            metadata={"name": self._part, "labels": labels(self._part, "ai")},
            spec={"sourceModelUri": self._serving.weights, "modelSize": size, "nodeGroups": [self._part]},
            opts=self.child(depends_on=[group]),
        )


def engine_arguments(model: Model, serving: Serving) -> list[str]:
    """Command line arguments of the engine."""
    if model.engine is ModelEngine.SIMULATOR:
        return [
            "--model=/mnt/models",
            f"--served-model-name={model.name}",
            f"--port={PORT}",
            f"--max-model-len={model.context_tokens}",
            f"--max-num-seqs={serving.max_sequences}",
            "--mode=random",
        ]
    if model.engine is ModelEngine.TGI:
        arguments = [
            "--model-id=/mnt/models",
            f"--port={PORT}",
            f"--max-total-tokens={model.context_tokens}",
            f"--max-input-tokens={model.context_tokens - 1}",
            f"--max-concurrent-requests={serving.max_sequences}",
            f"--cuda-memory-fraction={serving.memory_fraction}",
            f"--num-shard={serving.gpus}",
        ]
        if serving.data_type is not DataType.AUTO:
            arguments.append(f"--dtype={serving.data_type}")
    else:
        arguments = [
            "--model=/mnt/models",
            f"--served-model-name={model.name}",
            f"--port={PORT}",
            f"--max-model-len={model.context_tokens}",
            f"--max-num-seqs={serving.max_sequences}",
            f"--gpu-memory-utilization={serving.memory_fraction}",
            f"--tensor-parallel-size={serving.gpus}",
            f"--dtype={serving.data_type}",
            f"--middleware={DOOR}",
            "--enable-prefix-caching" if serving.prefix_caching else "--no-enable-prefix-caching",
        ]
        if serving.nodes > 1:
            arguments.append(f"--pipeline-parallel-size={serving.nodes}")
    if serving.quantization is not Quantization.NONE:
        arguments.append(
            f"{'--quantize' if model.engine is ModelEngine.TGI else '--quantization'}={serving.quantization}"
        )
    return arguments


def gpu_resource(serving: Serving, pool: PoolOfModel | GpuPool) -> str:
    """Extended resource that a server requests, such as "nvidia.com/gpu"."""
    if serving.slice == "gpu" or pool.strategy is mig.MigStrategy.SINGLE:
        return mig.GPU_RESOURCE
    return mig.resource_name(serving.slice)


def runtime_spec(model: Model, inputs: ModelServingInputs) -> dict[str, Any]:
    """Spec of a ServingRuntime for one model: the engine's container, key, probes and protocols."""
    health, reads_file = {"path": "/health", "port": PORT}, model.engine is not ModelEngine.TGI
    return {
        "supportedModelFormats": [{"name": model.engine.value, "version": "1", "autoSelect": False}],
        "protocolVersions": ["openai"],
        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)},
        "containers": [
            {
                "name": "kserve-container",
                "image": inputs.image,
                "ports": [{"containerPort": PORT, "name": "http", "protocol": "TCP"}],
                "securityContext": _camel(restricted()),
                # Loading weights takes minutes. The liveness probe detects a hung engine within half a minute.
                "startupProbe": {"httpGet": health, "periodSeconds": 5, "failureThreshold": 240},
                "readinessProbe": {"httpGet": health, "periodSeconds": 5, "failureThreshold": 2},
                "livenessProbe": {"httpGet": health, "periodSeconds": 10, "failureThreshold": 3},
                "env": _variables(model, inputs.key_secret),
                "volumeMounts": [
                    {"name": "shm", "mountPath": "/dev/shm"},
                    {"name": "tmp", "mountPath": "/tmp"},
                    *([_camel(secret_files.mount())] if reads_file else []),
                ],
            }
        ],
        "volumes": [
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "8Gi"}},
            *([_camel(secret_files.volume({KEY_FILE: (inputs.key_secret, "key")}))] if reads_file else []),
        ],
    }


def _variables(model: Model, key_secret: pulumi.Input[str] = "") -> list[dict[str, Any]]:
    """Environment of the engine."""
    if model.engine is ModelEngine.TGI:  # it reads no file (`secret_files.IN_ENVIRONMENT`)
        key = [_camel(one) for one in secret_files.variables({"API_KEY": (key_secret, "key")})]
    else:
        key = [{"name": KEY_FILE_VARIABLE, "value": secret_files.path(KEY_FILE)}]
    return [
        {"name": "HF_HUB_OFFLINE", "value": "1"},
        {"name": "VLLM_NO_USAGE_STATS", "value": "1"},
        *key,
    ]


def service_spec(
    model: Model, serving: Serving, pool: PoolOfModel | GpuPool, pods: Customization | None = None
) -> dict[str, Any]:
    """Spec of an InferenceService: weights, GPUs, number of servers, canary share."""
    gpu = {gpu_resource(serving, pool): str(serving.gpus)}
    resources = {
        "requests": {"cpu": model.resources.cpu, "memory": model.resources.memory, **gpu},
        "limits": {"memory": model.resources.memory, **gpu},
    }
    predictor: dict[str, Any] = {
        "minReplicas": 0 if serving.scaling.to_zero else model.replicas,
        "maxReplicas": max(serving.scaling.max_replicas, model.replicas),
        "timeout": model.timeout_seconds,
        "automountServiceAccountToken": False,
        # The group of the key's file. A volume with weights is left as it is if its root belongs to the group.
        "securityContext": {"fsGroup": NOBODY, "fsGroupChangePolicy": "OnRootMismatch"},
        "nodeSelector": {"cogniforge.dev/gpu-pool": pool.name},
        "tolerations": [{"key": mig.GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}],
        "model": {
            "modelFormat": {"name": model.engine.value},
            "runtime": part_name(model),
            "storageUri": serving.canary.weights if serving.canary else serving.weights,
            "args": engine_arguments(model, serving),
            "resources": resources,
        },
    }
    if serving.canary:
        predictor["canaryTrafficPercent"] = serving.canary.percent
    if serving.nodes > 1:
        predictor["workerSpec"] = {
            "pipelineParallelSize": serving.nodes,
            "tensorParallelSize": serving.gpus,
            "containers": [{"name": "worker-container", "resources": resources}],
        }
    return {"predictor": _with_settings(predictor, model, pods or Customization())}


def _with_settings(predictor: dict[str, Any], model: Model, pods: Customization) -> dict[str, Any]:
    """A predictor whose pods have these settings. Raises ConfigError with everything that does not fit."""
    values, taken = pods.values(camel=True), pods.taken()
    # KServe chooses the pods of the Deployment that it makes by these labels.
    taken.check("labels", _KSERVE_LABELS, values.get("labels", {}))
    for name in values.get("sidecars", {}):
        taken.missing(name, [])
    own = [variable["name"] for variable in _variables(model)]
    taken.check("environment", own, values.get("environment", {}))
    scheduling = {name: values[name] for name in ("affinity", "priorityClassName") if name in values}
    for name in ("labels", "annotations"):
        if name in values:
            predictor = {**predictor, name: values[name]}
    selected = taken.joined("nodeSelector", predictor["nodeSelector"], values.get("nodeSelector", {}))
    tolerated = [*predictor["tolerations"], *values.get("tolerations", [])]
    if "environment" in values:
        predictor["model"]["env"] = variables(values["environment"])
    taken.refuse()
    found = {**predictor, **scheduling, "nodeSelector": selected, "tolerations": tolerated}
    if values and "workerSpec" in predictor:
        worker = {**predictor["workerSpec"], **scheduling, "nodeSelector": selected, "tolerations": tolerated}
        found["workerSpec"] = worker
    return found


def scaling_spec(model: Model, serving: Serving, prometheus: str) -> dict[str, Any]:
    """Spec of a KEDA ScaledObject, which scales by waiting requests and generated tokens per server."""
    waiting, tokens = _METRICS[model.engine]
    part, scaling = part_name(model), serving.scaling
    selector = f'{{app="isvc.{part}-predictor"}}'

    def trigger(name: str, query: str, threshold: int) -> dict[str, Any]:
        metadata = {"serverAddress": prometheus, "query": query, "threshold": str(threshold)}
        return {"type": "prometheus", "name": name, "metricType": "AverageValue", "metadata": metadata}

    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{part}-predictor"},
        "minReplicaCount": 0 if scaling.to_zero else model.replicas,
        "maxReplicaCount": max(scaling.max_replicas, model.replicas),
        "pollingInterval": 15,
        "cooldownPeriod": scaling.idle_seconds,
        # Without metrics, the number of servers stays as it is.
        "fallback": {"failureThreshold": 4, "replicas": max(model.replicas, 1), "behavior": "currentReplicasIfHigher"},
        "triggers": [
            trigger("queue", f"sum({waiting}{selector})", scaling.queue_depth),
            trigger("tokens", f"sum(rate({tokens}{selector}[1m]))", scaling.tokens_per_second),
        ],
    }


def _camel(value: Any) -> Any:
    """Convert keys from snake_case, as in the SDK's typed inputs, to camelCase, as in custom resources."""
    if isinstance(value, dict):
        return {_camel_name(str(k)): _camel(v) for k, v in value.items()}  # pyright: ignore
    if isinstance(value, list):
        return [_camel(one) for one in value]  # pyright: ignore
    return value


def _camel_name(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
