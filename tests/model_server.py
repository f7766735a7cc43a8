"""The model server of the local environment on loopback: vLLM's simulator, which has vLLM's metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from service_images.serving import served

KEY = "key-of-the-model-server"
MODEL = "demo"


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """URL of a server of `MODEL` that requires `KEY`, which it reads from a file in the folder."""
    port, key = free_port(), folder / "key"
    key.write_text(KEY)
    url = f"http://127.0.0.1:{port}"
    names = (f"--model={MODEL}", f"--served-model-name={MODEL}", f"--port={port}")
    command = [builder.resolve(ToolName.INFERENCE_SIM), *names, "--max-model-len=8192", "--mode=random"]
    with served(command, {"MODEL_KEY_FILE": str(key)}, f"{url}/health", starts_s=120):
        yield url
