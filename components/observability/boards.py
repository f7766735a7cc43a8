"""Dashboards of the whole platform: overview, node, GPUs, model servers, cost. Pure data."""

from __future__ import annotations

from components.observability.panel import Board, budgets, panel, quantile, rate, volumes
from components.services import router_panels
from components.services.registry import USAGE

FOLDER = "CogniForge"
KSERVE, GPUS, MODELS = "kserve", "gpus", "models"
"""What boards and panels watch besides parts of the catalogue: KServe's servers, GPUs, any model server."""
_PODS = 'namespace="$namespace",container!=""'
_PREDICTORS = 'namespace="$namespace",deployment=~".+-predictor"'

OVERVIEW = Board(
    "overview",
    "CogniForge",
    "Whether users are served well, and which part to look at.",
    FOLDER,
    (
        *budgets("", "{{sloth_service}} {{sloth_slo}}"),
        router_panels.REQUESTS,
        panel(
            "Services: requests per second",
            "By service and status.",
            "reqps",
            (rate("http_server_requests_total", "job, status"), "{{job}} {{status}}"),
        ),
        panel(
            "Services: 95th percentile of latency",
            "Time of the slowest twentieth of requests.",
            "s",
            (quantile(0.95, "http_server_request_duration_seconds", "job"), "{{job}}"),
        ),
        panel(
            "Dead letters",
            "What could not be processed and waits for an operator.",
            "short",
            ("max by (job, topic) (dead_letters_waiting)", "{{job}} {{topic}}"),
        ),
    ),
)
NODE = Board(
    "node",
    "Nodes",
    "What runs on each node, and what takes its CPU, memory and volumes.",
    FOLDER,
    (
        panel(
            "CPU time by node",
            "Processor seconds that all containers of a node use in a second.",
            "short",
            (rate("container_cpu_usage_seconds_total", "instance", 'container!=""'), "{{instance}}"),
        ),
        panel(
            "Memory by node",
            "Memory of all containers of a node that the kernel cannot take back.",
            "bytes",
            ('sum by (instance) (container_memory_working_set_bytes{container!=""})', "{{instance}}"),
        ),
        panel(
            "CPU time by pod",
            "Processor seconds that a pod of the platform uses in a second.",
            "short",
            (rate("container_cpu_usage_seconds_total", "pod", _PODS), "{{pod}}"),
        ),
        panel(
            "Memory by pod",
            "Memory of a pod of the platform that the kernel cannot take back.",
            "bytes",
            (f"sum by (pod) (container_memory_working_set_bytes{{{_PODS}}})", "{{pod}}"),
        ),
        volumes(".+", "data"),
    ),
)
GPU = Board(
    "gpus",
    "GPUs",
    "Whether GPUs work, are busy and are healthy. Source: NVIDIA's DCGM exporter.",
    FOLDER,
    (
        panel(
            "Use",
            "Share of time in which the GPU computes. A slice of MIG does not report it.",
            "percent",
            ("max by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL)", "{{Hostname}} {{gpu}}"),
        ),
        panel(
            "Used memory",
            "Share of the framebuffer that is used; slices of MIG apart.",
            "percentunit",
            (
                "sum by (Hostname, gpu, GPU_I_ID) (DCGM_FI_DEV_FB_USED) / sum by (Hostname, gpu, GPU_I_ID) "
                "(DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)",
                "{{Hostname}} {{gpu}} {{GPU_I_ID}}",
            ),
        ),
        panel(
            "Power",
            "Power that a GPU draws.",
            "watt",
            ("max by (Hostname, gpu) (DCGM_FI_DEV_POWER_USAGE)", "{{Hostname}} {{gpu}}"),
        ),
        panel(
            "Temperature",
            "Temperature of the GPU and of its memory. A GPU that is too hot lowers its clock.",
            "celsius",
            ("max by (Hostname, gpu) (DCGM_FI_DEV_GPU_TEMP)", "{{Hostname}} {{gpu}}"),
            ("max by (Hostname, gpu) (DCGM_FI_DEV_MEMORY_TEMP)", "{{Hostname}} {{gpu}} memory"),
        ),
        panel(
            "Clock",
            "Frequency of the processors, in MHz. A fall under load means heat or a limit of power.",
            "rotmhz",
            ("max by (Hostname, gpu) (DCGM_FI_DEV_SM_CLOCK)", "{{Hostname}} {{gpu}}"),
        ),
        panel(
            "Last XID error",
            "Number of the driver's last error; 0 means none. NVIDIA's documentation lists the numbers.",
            "short",
            ("max by (Hostname, gpu) (DCGM_FI_DEV_XID_ERRORS)", "{{Hostname}} {{gpu}}"),
        ),
        panel(
            "Remapped rows of memory",
            "Rows that were replaced after errors that could not be corrected. A failed replacement needs a new GPU.",
            "short",
            ("max by (Hostname, gpu) (DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS)", "{{Hostname}} {{gpu}}"),
            ("max by (Hostname, gpu) (DCGM_FI_DEV_ROW_REMAP_FAILURE)", "{{Hostname}} {{gpu}} failed"),
        ),
    ),
    GPUS,
)
SERVING = Board(
    "serving",
    "Model servers",
    "Whether vLLM keeps up: its queue, its KV cache, and what clients wait for.",
    FOLDER,
    (
        panel(
            "Requests that run and wait",
            "A queue that grows asks for another server, or for a limit at the Router.",
            "short",
            ("sum by (model_name) (vllm:num_requests_running)", "{{model_name}} running"),
            ("sum by (model_name) (vllm:num_requests_waiting)", "{{model_name}} waiting"),
        ),
        panel(
            "Use of the KV cache",
            "Share of the cache's blocks that are in use, by server. At 1, requests wait or are computed again.",
            "percentunit",
            ("max by (model_name, pod) (vllm:kv_cache_usage_perc)", "{{model_name}} {{pod}}"),
        ),
        panel(
            "Time to the first token",
            "Median and slowest twentieth, measured in the server.",
            "s",
            (quantile(0.5, "vllm:time_to_first_token_seconds", "model_name"), "{{model_name}} 50%"),
            (quantile(0.95, "vllm:time_to_first_token_seconds", "model_name"), "{{model_name}} 95%"),
        ),
        panel(
            "Time between tokens",
            "Median and slowest twentieth: how fluent a stream is.",
            "s",
            (quantile(0.5, "vllm:inter_token_latency_seconds", "model_name"), "{{model_name}} 50%"),
            (quantile(0.95, "vllm:inter_token_latency_seconds", "model_name"), "{{model_name}} 95%"),
        ),
        panel(
            "Tokens per second",
            "Tokens that are read from prompts, and tokens that are generated.",
            "short",
            (rate("vllm:prompt_tokens_total", "model_name"), "{{model_name}} read"),
            (rate("vllm:generation_tokens_total", "model_name"), "{{model_name}} generated"),
        ),
        panel(
            "Answers per second",
            "By the reason for their end: `length` means that the limit of tokens cut them.",
            "reqps",
            (rate("vllm:request_success_total", "model_name, finish_reason"), "{{model_name}} {{finish_reason}}"),
        ),
        panel(
            "Servers of KServe",
            "Servers that are ready, and servers that are wanted.",
            "short",
            (
                f"sum by (deployment) (kube_deployment_status_replicas_available{{{_PREDICTORS}}})",
                "{{deployment}} ready",
            ),
            (f"sum by (deployment) (kube_deployment_spec_replicas{{{_PREDICTORS}}})", "{{deployment}} wanted"),
            part=KSERVE,
        ),
    ),
    MODELS,
)
COST = Board(
    "cost",
    "Cost",
    "What is used, what budgets allow, and whether all usage will be billed.",
    FOLDER,
    (
        panel(
            "Tokens per second, by model",
            "Input and output tokens, as they are billed.",
            "short",
            (
                rate("gen_ai_client_token_usage_total", "gen_ai_request_model, token_type"),
                "{{gen_ai_request_model}} {{token_type}}",
            ),
        ),
        panel(
            "Budgets of this month",
            "All tenants' budgets together, and what they have used of them, in USD. Tenants without a budget are "
            "left out.",
            "currencyUSD",
            ("max(billing_budgets_usd)", "budgets"),
            ("max(billing_budgets_spent_usd)", "used"),
        ),
        panel(
            "Tenants that have used up their budgets",
            "The Router refuses their requests until the month ends or an operator raises the budget.",
            "short",
            ("max(billing_budgets_reached)", "tenants"),
        ),
        panel(
            "Answers from the cache",
            "Share of look-ups that found an answer, which costs no tokens of a model.",
            "percentunit",
            (
                f"{rate('router_cache_requests_total', 'result')} / ignoring (result) group_left () "
                f"{rate('router_cache_requests_total')}",
                "{{result}}",
            ),
        ),
        panel(
            "Requests whose tokens the Router has counted",
            "The model server reported no usage, so that invoices contain the Router's estimate.",
            "reqps",
            (rate("router_usage_estimated_total", "target, cause"), "{{target}} {{cause}}"),
        ),
        panel(
            "Usage events",
            "Lost events are never billed. Dead letters are billed once an operator has retried them.",
            "short",
            (rate("events_lost_total", labels='topic="usage.recorded.v1"'), "lost per second"),
            ('max(dead_letters_waiting{topic="usage.recorded.v1"})', "dead letters"),
        ),
    ),
    USAGE.name,
)
BOARDS = (OVERVIEW, NODE, GPU, SERVING, COST)
