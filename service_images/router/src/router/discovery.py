"""Discovers models that KServe serves, by watching InferenceServices in the Router's namespace."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
from kit import logs
from pydantic import ValidationError

from router.routes import ModelRoute, RouteTable

log = logs.get("router.discovery")
MODEL = "cogniforge.dev/model"
"""Annotation with the name that clients use; without it, the object's own name."""
_CREDENTIALS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PATH = "/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices"
_WATCH_S = 300
_BACKOFF_S = (0.5, 30.0)


def route_of(service: dict[str, Any]) -> ModelRoute | None:
    """Route of an InferenceService; None if it is not ready or not valid."""
    status, metadata = service.get("status") or {}, service["metadata"]
    ready = {c["type"]: c["status"] for c in status.get("conditions", [])}.get("Ready") == "True"
    url = (status.get("address") or {}).get("url") or status.get("url")
    if not ready or not url:
        return None
    timeout = ((service.get("spec") or {}).get("predictor") or {}).get("timeout") or 60
    name = (metadata.get("annotations") or {}).get(MODEL, metadata["name"])
    try:
        return ModelRoute(model=name, upstream=url, timeout_seconds=timeout, owned_by="kserve")
    except ValidationError as error:
        log.warning(
            "this InferenceService is not a valid route", service=metadata["name"], reason=str(error.errors()[0]["msg"])
        )
        return None


class Discovery:
    """The current table: static routes, and discovered ones, which replace static routes of the same model."""

    def __init__(self, static: RouteTable, base: str, namespace: str, folder: Path = _CREDENTIALS) -> None:
        self._static, self._base, self._folder = static, base, folder
        self._path = _PATH.format(namespace=namespace)
        self._found: dict[str, ModelRoute] = {}
        self.table = static
        self.changed: Callable[[RouteTable], None] = lambda _: None
        """Called with each new table."""

    @classmethod
    def in_cluster(cls, static: RouteTable, folder: Path = _CREDENTIALS) -> Discovery:
        """With the pod's own credentials. Raises OSError if there are none."""
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        return cls(static, f"https://{host}:{port}", (folder / "namespace").read_text().strip(), folder)

    async def run(self) -> None:
        """Watch the API server until cancelled. During an outage, known routes stay."""
        low, high = _BACKOFF_S
        pause = low
        while True:
            try:
                async for event in self._events():
                    self._take(event)
                    pause = low
            except (httpx.HTTPError, OSError, ValueError, KeyError) as error:
                log.warning("the API server is unavailable", reason=repr(error), again_in_s=round(pause, 1))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, high)

    async def _events(self) -> AsyncIterator[dict[str, Any]]:
        """One list, then changes until the server ends the watch."""
        # The kubelet renews the token, so it is read each time.
        headers = {"authorization": f"Bearer {(self._folder / 'token').read_text().strip()}"}
        timeout = httpx.Timeout(10.0, read=_WATCH_S + 30.0)
        async with httpx.AsyncClient(
            base_url=self._base, headers=headers, verify=str(self._folder / "ca.crt"), timeout=timeout
        ) as client:
            answer = (await client.get(self._path)).raise_for_status().json()
            yield {"type": "LIST", "items": answer["items"]}
            query = {
                "watch": "1",
                "resourceVersion": answer["metadata"]["resourceVersion"],
                "timeoutSeconds": str(_WATCH_S),
            }
            async with client.stream("GET", self._path, params=query) as stream:
                stream.raise_for_status()
                async for line in stream.aiter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return  # usually because the revision is too old; list again
                    yield event

    def _take(self, event: dict[str, Any]) -> None:
        before = dict(self._found)
        if event["type"] == "LIST":
            routes = {item["metadata"]["name"]: route_of(item) for item in event["items"]}
            self._found = {name: route for name, route in routes.items() if route}
        else:
            name = event["object"]["metadata"]["name"]
            route = None if event["type"] == "DELETED" else route_of(event["object"])
            self._found = {k: v for k, v in self._found.items() if k != name} | ({name: route} if route else {})
        if self._found != before:
            self._merge()

    def rebase(self, static: RouteTable) -> None:
        """Use new static routes; discovered ones keep their priority."""
        self._static = static
        self._merge()

    def _merge(self) -> None:
        found = {route.model: route for route in self._found.values()}
        kept = [route for route in self._static.routes if route.model not in found]
        table = self._static.model_copy(update={"routes": (*kept, *found.values())})
        self.table = table if kept or found else self._static
        self.changed(self.table)
        log.info("models", found=sorted(found), static=[route.model for route in kept])
