"""`python tests/perf/bench_router.py`: speed and memory of the Router, compared with LiteLLM's proxy in one session.

An nginx that answers at once is the upstream; wrk is the client. The router, and after it its peer, has the first core
for itself; upstream and client share the second one. Needs nginx and wrk (`apt-get install nginx-light wrk`) and an
otherwise idle machine; installs LiteLLM into a folder under the cache the first time. All traffic stays on loopback.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from local import paths
from local.toolchain import builder
from local.toolchain.tools import ToolName

LITELLM = "litellm[proxy]==1.106.2"
UPSTREAM, ROUTER, PEER = 9800, 9700, 9701
KEY = "cf-bench"
SECONDS = 5
STREAMS, STREAM_TOKENS = 256, 800
QUESTION = {
    "model": "demo",
    "messages": [{"role": "user", "content": "Hello, how are you today? Tell me something."}],
    "max_tokens": 16,
}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "demo",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello! How can I help you today? I am here to answer."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 14, "total_tokens": 26},
}
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body;
  server {{ listen 127.0.0.1:{port}; default_type application/json; location / {{ return 200 '{answer}'; }} }} }}
"""
LUA = """
wrk.method = "POST"; wrk.body = '{body}'
wrk.headers["Content-Type"] = "application/json"; wrk.headers["Authorization"] = "Bearer {key}"
"""
OWN = """
local n = 0
request = function()
  n = n + 1
  wrk.headers["x-request-id"] = "bench-" .. n
  wrk.headers["traceparent"] = string.format("00-%032x-%016x-00", n, n)
  return wrk.format()
end
"""
"""Requests like those of a gateway: each with its own ID and trace."""


@dataclass(frozen=True)
class Load:
    """Results of wrk."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


@contextlib.contextmanager
def running(core: int, port: int, *command: str, **env: str) -> Iterator[psutil.Process]:
    """A server on one core, from when it answers until the end of the block."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command], env={**os.environ, **env}, stdout=log, stderr=log
        )
        try:
            _await(port, process)
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            process.kill()
            process.wait()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=1)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing answers at 127.0.0.1:{port}")


def load(port: int, script: Path, connections: int, seconds: int = SECONDS) -> Load:
    """Load a server with wrk from the second core."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", str(script)]
    text = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Load(
        float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),  # type: ignore[index]
        _ms(text, "50%"),
        _ms(text, "99%"),
        int(failed[1]) if failed else 0,
    )


def _ms(text: str, row: str) -> float:
    value, unit = re.search(rf"{row}\s+([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def table(**route: Any) -> dict[str, Any]:
    """Four targets with a bandit, and a tenant with a key, rates and a budget: all policies are enabled."""
    targets = [
        {"name": name, "upstream": f"http://127.0.0.1:{UPSTREAM}/{name}", "input_price": 1, "output_price": 2}
        for name in "abcd"
    ]
    tenant = {
        "id": "bench",
        "keys": [hashlib.sha256(KEY.encode()).hexdigest()],
        "requests_per_minute": 10**9,
        "tokens_per_minute": 10**12,
        "budget_usd": 10**9,
    }
    return {"routes": [{"model": "demo", "strategy": "bandit", "targets": targets, **route}], "tenants": [tenant]}


def python() -> str:
    """Debian's interpreter, as in the image; otherwise the current one."""
    found = Path("/usr/bin/python3.11")
    return str(found) if found.exists() and sys.version_info[:2] == (3, 11) else sys.executable


@contextlib.contextmanager
def router(folder: Path, **route: Any) -> Iterator[psutil.Process]:
    """Our Router, started as in its image."""
    routes = folder / "routes.json"
    routes.write_text(json.dumps(table(**route)))
    sources = paths.PROJECT / "service_images"
    site = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
    path = os.pathsep.join(map(str, (sources / "kit/src", sources / "router/src", site)))
    env = {"PYTHONPATH": path, "SERVICE_ROUTES_FILE": str(routes), "SERVICE_HOST": "127.0.0.1"}
    # Credentials for the upstream, mounted as in a pod of the Router.
    inside = folder / "credentials" / "inside"
    inside.mkdir(parents=True, exist_ok=True)
    (inside / "127.0.0.1").write_text(KEY)
    env["SERVICE_CREDENTIALS"] = str(inside.parent)
    with running(0, ROUTER, python(), "-m", "router", **env, SERVICE_PORT=str(ROUTER)) as process:
        yield process


@contextlib.contextmanager
def litellm(folder: Path) -> Iterator[psutil.Process]:
    """LiteLLM's proxy with one worker and the same upstream."""
    home = paths.cache() / "bench" / hashlib.sha256(LITELLM.encode()).hexdigest()[:12]
    if not (home / "bin" / "litellm").exists():
        print(f"installing {LITELLM}", file=sys.stderr)
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin" / "pip", "install", "-q", LITELLM], check=True)
    config = folder / "litellm.yaml"
    model = {"model": "openai/demo", "api_base": f"http://127.0.0.1:{UPSTREAM}", "api_key": "none"}
    settings = {"model_list": [{"model_name": "demo", "litellm_params": model}]}
    config.write_text(json.dumps({**settings, "general_settings": {"master_key": f"sk-{KEY}"}}))
    command = [str(home / "bin" / "litellm"), "--config", str(config), "--port", str(PEER), "--host", "127.0.0.1"]
    with running(0, PEER, *command, LITELLM_LOG="ERROR", LITELLM_LOCAL_MODEL_COST_MAP="True") as process:
        yield process


def script(folder: Path, name: str, key: str, more: str = "") -> Path:
    """wrk's request."""
    file = folder / f"{name}.lua"
    file.write_text(LUA.format(body=json.dumps(QUESTION), key=key) + more)
    return file


def streams(port: int) -> dict[str, Any]:
    """256 streams at once, a token every 5 ms each, read from the second core."""
    client = str(Path(__file__).with_name("stream_client.py"))
    command = ["taskset", "-c", "1", sys.executable, client, str(port), str(STREAMS), str(STREAM_TOKENS), KEY]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def paced(folder: Path) -> dict[str, Any]:
    """Streams through the Router, compared with direct ones; the model is vLLM's simulator."""
    simulator = str(builder.resolve(ToolName.INFERENCE_SIM))
    pace = ("--inter-token-latency=5ms", "--time-to-first-token=5ms", f"--max-num-seqs={STREAMS}")
    flags = ("--model=demo", f"--port={UPSTREAM}", "--mode=random", "--max-model-len=8192", *pace)
    (folder / "key").write_text(KEY)
    with running(1, UPSTREAM, simulator, *flags, MODEL_KEY_FILE=str(folder / "key")):
        direct = streams(UPSTREAM)
        with router(folder, timeout_seconds=120, targets=[{"name": "a", "upstream": f"http://127.0.0.1:{UPSTREAM}"}]):
            routed = streams(ROUTER)
    ratio = routed["median stream, s"] / direct["median stream, s"]
    return {"streams, direct": direct, "streams, routed": routed, "time of a routed stream to a direct one": ratio}


def flat(folder: Path, script: Path) -> dict[str, Any]:
    """Memory after a million requests."""
    with router(folder) as process:
        load(ROUTER, script, 16, 10)
        before, sent = process.memory_info().rss, 0.0
        while sent < 1_000_000:
            sent += load(ROUTER, script, 16, 20).rate * 20
        after = process.memory_info().rss
    sizes = {"before": round(before / 2**20, 1), "after": round(after / 2**20, 1)}
    return {"resident MiB over a million requests": {**sizes, "requests": round(sent)}}


def main() -> None:
    """Print one JSON object."""
    for program in ("nginx", "wrk", "taskset"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            raise SystemExit(f"{program} is missing: apt-get install nginx-light wrk util-linux")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        ours, theirs = script(folder, "ours", KEY), script(folder, "theirs", f"sk-{KEY}")
        unlike = script(folder, "unlike", KEY, OWN)
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=UPSTREAM, answer=json.dumps(ANSWER)))
        with running(1, UPSTREAM, "/usr/sbin/nginx", "-c", str(config), "-e", f"{folder}/error.log"):
            direct = {c: load(UPSTREAM, ours, c, 3) for c in (1, 16)}
            with router(folder) as process:
                load(ROUTER, ours, 16, 2)
                by = {c: load(ROUTER, ours, c) for c in (1, 16, 64)}
                found["governed requests/s a core"] = round(max(by[16].rate, by[64].rate))
                found["the same, each with its own id and trace"] = round(
                    max(load(ROUTER, unlike, c).rate for c in (16, 64))
                )
                found["added p50 at 1, ms"] = round(by[1].p50_ms - direct[1].p50_ms, 3)
                found["added p99 at 16, ms"] = round(by[16].p99_ms - direct[16].p99_ms, 3)
                found["failed"] = sum(one.failed for one in by.values())
                found["resident MiB after all of them"] = round(process.memory_info().rss / 2**20, 1)
            with router(folder, cache={"any_temperature": True}):
                load(ROUTER, ours, 16, 2)
                found["exact cache hits/s a core"] = round(load(ROUTER, ours, 64).rate)
                found["hits, each with its own id and trace"] = round(load(ROUTER, unlike, 64).rate)
            note(found)
            found |= flat(folder, ours)
            note(found)
            with litellm(folder):
                load(PEER, theirs, 16, 5)
                peer = load(PEER, theirs, 16, 10)
                found["LiteLLM proxy requests/s a core"] = round(peer.rate, 1)
                found["LiteLLM p50 at 16, ms"] = peer.p50_ms
                found["LiteLLM failed"] = peer.failed
        note(found)
        found |= paced(folder)
        found["times LiteLLM"] = round(found["governed requests/s a core"] / peer.rate)
    print(json.dumps(found, indent=2))


def note(found: dict[str, Any]) -> None:
    """Print the results so far."""
    print(json.dumps(found), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
