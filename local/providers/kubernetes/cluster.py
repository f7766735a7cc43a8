"""Client for an API server: discovery, apply, read, delete, events, logs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from local.providers.server import ProviderError

FIELD_MANAGER = "pulumi-kubernetes"
Object = dict[str, Any]


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, status: int, reason: str, message: str, causes: list[Object]) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.causes = status, reason, message, causes

    @property
    def immutable(self) -> bool:
        """Whether the change requires replacement of the object."""
        text = self.message.lower()
        marks = ("immutable", "may not change", "may not add or remove", "cannot change roleref", "updates to ")
        return self.status == 422 and any(mark in text for mark in marks)


class NotFound(ApiError):
    """The object, its namespace or its kind does not exist."""


class Unreachable(ProviderError):
    """The API server is unreachable."""


class Cluster:
    """A connection to one API server. It can be used by several threads."""

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
        self._kubeconfig, self._context = kubeconfig, context
        self._namespace = namespace
        self._lock = threading.Lock()
        self._api: client.ApiClient | None = None
        self._resources: dict[str, dict[str, Object]] = {}

    # --- connection ----------------------------------------------------------------------------

    def _client(self) -> client.ApiClient:
        with self._lock:
            if self._api is None:
                self._api = self._connect()
            return self._api

    def _connect(self) -> client.ApiClient:
        try:
            content = self._kubeconfig
            if content and not content.lstrip().startswith(("{", "apiVersion", "kind", "clusters", "contexts")):
                content = Path(content).expanduser().read_text()
            if content:
                api = config.new_client_from_config_dict(yaml.safe_load(content), context=self._context)
            else:
                api = config.new_client_from_config(context=self._context)
        except (ConfigException, OSError, yaml.YAMLError) as error:
            where = (
                "the provider's `kubeconfig`" if self._kubeconfig else os.environ.get("KUBECONFIG", "~/.kube/config")
            )
            raise Unreachable(f"there is no usable kubeconfig: {where}: {error}") from None
        api.configuration.retries = False  # pyright: ignore
        return api

    @property
    def default_namespace(self) -> str:
        """Namespace of the provider, otherwise that of the kubeconfig context, otherwise "default"."""
        return self._namespace or "default"

    def _call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str = "application/json",
        timeout_s: float = 30,
        raw: bool = False,
    ) -> Any:
        api = self._client()
        headers = {"Accept": "application/json", "Content-Type": content_type}
        # The client encodes JSON itself and sends other content unchanged.
        data = body if body is None or "json" in content_type else json.dumps(body)
        try:
            response = api.call_api(
                method,
                api.configuration.host + path,
                header_params=_auth(api, headers),
                body=data,
                _request_timeout=timeout_s,
            )
            content = response.read()
        except ApiException as error:
            raise _api_error(error.status or 0, error.body) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"the API server {api.configuration.host} does not answer: {error}") from None
        if response.status >= 300:
            raise _api_error(response.status, content)
        text = content.decode() if isinstance(content, bytes) else str(content)
        return text if raw else json.loads(text or "{}")

    # --- discovery -----------------------------------------------------------------------------

    def resource(self, api_version: str, kind: str) -> Object:
        """The API resource of a kind: its plural `name` and whether it is `namespaced`."""
        known = self._resources.get(api_version, {})
        if kind not in known:
            prefix = "/api/" if "/" not in api_version else "/apis/"
            listing = self._call("GET", prefix + api_version)
            known = {r["kind"]: r for r in listing.get("resources", []) if "/" not in r["name"]}
            self._resources[api_version] = known
        if kind not in known:
            raise NotFound(404, "NotFound", f"the cluster has no kind {kind} in {api_version}", [])
        return known[kind]

    def path(self, api_version: str, kind: str, namespace: str | None, name: str = "") -> str:
        """The URL path of an object or of its collection."""
        resource = self.resource(api_version, kind)
        prefix = "/api/" if "/" not in api_version else "/apis/"
        scope = f"/namespaces/{namespace or self.default_namespace}" if resource["namespaced"] else ""
        return f"{prefix}{api_version}{scope}/{resource['name']}" + (f"/{quote(name)}" if name else "")

    def namespaced(self, api_version: str, kind: str) -> bool:
        """Whether objects of a kind are namespaced."""
        return bool(self.resource(api_version, kind)["namespaced"])

    # --- objects -------------------------------------------------------------------------------

    def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Object:
        """One object. Raises NotFound."""
        return self._call("GET", self.path(api_version, kind, namespace, name))

    def list(self, api_version: str, kind: str, namespace: str | None, **query: str) -> list[Object]:
        """Objects of a namespace, filtered by labelSelector or fieldSelector."""
        path = self.path(api_version, kind, namespace)
        return self._call("GET", f"{path}?{urlencode(query)}").get("items", [])

    def apply(self, manifest: Object, *, dry_run: bool = False, force: bool = True) -> Object:
        """Apply a manifest with server-side apply. Unknown fields are refused."""
        meta = manifest["metadata"]
        path = self.path(manifest["apiVersion"], manifest["kind"], meta.get("namespace"), meta["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower(), "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return self._call("PATCH", f"{path}?{urlencode(query)}", manifest, "application/apply-patch+yaml")

    def delete(self, api_version: str, kind: str, namespace: str | None, name: str, propagation: str) -> None:
        """Request the deletion of an object. Raises NotFound."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        self._call("DELETE", self.path(api_version, kind, namespace, name), body)

    def marked(self, label: str, value: str) -> Iterator[Object]:
        """Objects of all kinds with a label."""
        query = urlencode({"labelSelector": f"{label}={value}"})
        for prefix, api_version in self._api_versions():
            for resource in self._call("GET", prefix + api_version).get("resources", []):
                if "/" in resource["name"] or not {"list", "delete"} <= set(resource.get("verbs") or ()):
                    continue
                items = self._call("GET", f"{prefix}{api_version}/{resource['name']}?{query}").get("items", [])
                yield from ({**item, "apiVersion": api_version, "kind": resource["kind"]} for item in items)

    def _api_versions(self) -> Iterator[tuple[str, str]]:
        """(path prefix, apiVersion) of each API group, in the preferred version."""
        yield "/api/", "v1"
        for group in self._call("GET", "/apis").get("groups", []):
            yield "/apis/", group["preferredVersion"]["groupVersion"]

    def logs(self, namespace: str, pod: str, container: str, previous: bool, lines: int = 10) -> str:
        """Last lines of a container's log; empty if there is none."""
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        try:
            return self._call("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log?{urlencode(query)}", raw=True)
        except (ApiError, Unreachable):
            return ""


def _auth(api: client.ApiClient, headers: dict[str, str]) -> dict[str, str]:
    if token := api.configuration.get_api_key_with_prefix("authorization"):
        headers["Authorization"] = token
    return headers


def _api_error(status: int, body: Any) -> ApiError:
    try:
        content = json.loads(body)
        message, reason = content.get("message", ""), content.get("reason", "")
        causes = (content.get("details") or {}).get("causes") or []
    except (TypeError, ValueError, AttributeError):
        message, reason, causes = str(body or f"status {status}")[:500], "", []
    kind = NotFound if status == 404 else ApiError
    return kind(status, reason, message, causes)
