"""A model on a slice of a GPU, with up to six servers."""

import pulumi
from cogniforge.ai.model_serving import ModelServing

config = pulumi.Config()
model = ModelServing(
    "llama",
    {
        "namespace": "shop",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "weights": "hf://meta-llama/Llama-3.1-8B-Instruct",
        "image": config.require("vllm-image"),
        "pool": {"name": "shared"},
        "slice": "3g.40gb",
        "context_tokens": 16_384,
        "resources": {"cpu": "4", "memory": "32Gi"},
        "scaling": {"max_replicas": 6, "queue_depth": 4},
        "key_secret": "llama-key",
        "callers": ["router"],
    },
)
pulumi.export("model", model.url)
