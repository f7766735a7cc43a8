"""Fetches images into the node's containerd while others are still being built, so that pods need not wait for them."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from local.node.settings import NodePaths


@contextlib.contextmanager
def fetching(node: NodePaths) -> Iterator[Callable[[str], None]]:
    """Yields a function that takes the reference of an image in the node's registry; images are fetched one at a time.

    An image that cannot be fetched is left to the kubelet, which reports the reason at the pod. The end of the
    context ends the fetch that is running.
    """
    waiting: SimpleQueue[str | None] = SimpleQueue()
    ended = threading.Event()
    running: list[subprocess.Popen[bytes]] = []
    lock = threading.Lock()

    def work() -> None:
        while (reference := waiting.get()) and not ended.is_set():
            command = ["ctr", "--address", str(node.containerd_socket), "--namespace", "k8s.io"]
            command += ["images", "pull", "--hosts-dir", str(node.config / "registries"), reference]
            with lock:
                if ended.is_set():
                    return
                fetch = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                running[:] = [fetch]
            fetch.wait()

    thread = threading.Thread(target=work, name="fetching images", daemon=True)
    thread.start()
    try:
        yield waiting.put
    finally:
        with lock:
            ended.set()
            for fetch in running:
                if fetch.poll() is None:
                    fetch.terminate()
        waiting.put(None)
        thread.join()
