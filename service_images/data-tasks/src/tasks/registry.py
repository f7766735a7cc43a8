"""Task for the schema registry: registers all event schemas with the configured compatibility."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
from kit import events

from tasks.common import Problem, endpoint, password, patiently, wanted

LOGIN = "schemas"
_DIFFERENCES = re.compile(r"list of diff types: \[(.*?)\]")
_ADDED = "/propertySchemasAdded"
TYPE = {"content-type": "application/vnd.schemaregistry.v1+json"}


def main() -> None:
    """Run the task."""
    headers = {**TYPE, "authorization": f"Bearer {password(LOGIN, LOGIN)}"}
    with httpx.Client(base_url=f"{endpoint()}/apis/ccompat/v7", headers=headers, timeout=15, trust_env=False) as client:
        patiently("the registry does not answer", lambda: _get(client, "/subjects"), httpx.HTTPError)
        level = wanted()["compatibility"]
        _put(client, "/config", {"compatibility": level})
        for topic, schema in schemas(wanted()).items():
            subject = f"{topic}-value"
            # An existing subject may have its own level, from an earlier change.
            if client.get(f"/config/{subject}").status_code == 200:
                _put(client, f"/config/{subject}", {"compatibility": level})
            register(client, subject, schema, level)


def schemas(asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schema of each topic's events: the platform's own, unless they are switched off, and those asked for."""
    own = {topic: events.schema(topic) for topic in events.topics()} if asked.get("platform_events", True) else {}
    return own | {topic: json.loads(text) for topic, text in asked.get("schemas", {}).items()}


def _get(client: httpx.Client, path: str) -> Any:
    return client.get(path).raise_for_status().json()


def _only_adds(refusal: str) -> bool:
    """Whether a schema was refused only because of new optional properties.

    The registry refuses them because old events could have had such a property with another type. The platform's
    events have only properties of their schemas.
    """
    found = _DIFFERENCES.search(refusal)
    return found is not None and all(place.endswith(_ADDED) for place in found[1].split(", "))


def _put(client: httpx.Client, path: str, body: Any) -> None:
    answer = client.put(path, json=body)
    if answer.status_code >= 400:
        raise Problem(f"{path}: {answer.status_code} {answer.text[:300]}")


def register(client: httpx.Client, subject: str, schema: dict[str, Any], level: str) -> None:
    """Register a schema. Raises Problem if it is incompatible with the current one."""
    body = {"schemaType": "JSON", "schema": json.dumps(schema, sort_keys=True)}
    answer = client.post(f"/subjects/{subject}/versions", json=body)
    if answer.status_code == 409 and _only_adds(answer.text):
        _put(client, f"/config/{subject}", {"compatibility": "NONE"})
        try:
            answer = client.post(f"/subjects/{subject}/versions", json=body)
        finally:
            # Removing the subject's own level would set it to NONE.
            _put(client, f"/config/{subject}", {"compatibility": level})
    if answer.status_code == 409:
        raise Problem(
            f"{subject}: the new schema is not {level.lower()} compatible with the current one: {answer.text[:300]}; "
            "give the event a new version, with a topic of its own"
        )
    if answer.status_code >= 400:
        raise Problem(f"{subject}: {answer.status_code} {answer.text[:300]}")
    kept = _get(client, f"/subjects/{subject}/versions/latest")["schema"]
    if json.loads(kept) != schema:
        raise Problem(f"{subject}: the stored schema differs from the registered one")
