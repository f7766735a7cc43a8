"""Decisions of the gateway's policies, over all scopes, paths and methods that there are.

The bundle is taken from the rendered objects and evaluated by OPA itself. What is intended comes from the services'
records and documents, read without the code that makes the bundle's data.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components import sources
from components.config.platform import PlatformConfig
from components.mesh.routes import OPERATORS_DOCUMENTS
from components.services.record import ServiceRecord
from components.services.registry import SERVICES
from local.toolchain import builder
from local.toolchain.tools import ToolName
from policies.access.model import Access, Layer
from policies.access.objects import Object, Rendered

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
NOBODY, BARE = "whoever has no key", "a key without scopes"
ADMIN = "admin"
_FILE = "bundle.tar.gz"
_UNKNOWN = ("/v1", "/v1/unknown", "/v1/admin", "/metrics", "/healthz", "/readyz")
"""Paths that no document has."""
_LIMIT_S = 60


def _bundle(rendered: Rendered) -> Object | None:
    return next((one for one in rendered.of_kind("ConfigMap") if _FILE in (one.inputs.get("binaryData") or {})), None)


def _scopes() -> list[str]:
    return sorted({ADMIN, *(scope for record in SERVICES.values() for scope in record.scopes)})


def _who(scopes: tuple[str, ...] | None) -> str:
    return NOBODY if scopes is None else f"a key with {scopes[0]}" if scopes else BARE


def _callers() -> list[tuple[str, ...] | None]:
    return [None, (), *((scope,) for scope in _scopes())]


@functools.cache
def _document(service: str) -> Mapping[str, Any]:
    return json.loads((sources.SERVICE_IMAGES / service / "openapi.json").read_text())


def _paths() -> list[str]:
    """All paths of the documents of all services, of the gateway itself, and some that nobody has."""
    documented = {path for name in SERVICES for path in _document(name)["paths"]}
    own = {"/", *OPERATORS_DOCUMENTS, *(f"/openapi/{name}.json" for name in SERVICES)}
    return sorted(documented | own | set(_UNKNOWN))


def _input(path: str, method: str, scopes: tuple[str, ...] | None) -> dict[str, Any]:
    target = re.sub(r"[{}]", "", path)  # a variable's value is its name
    caller = {"key": True, "caller": {"tenant": "-", "id": "-", "scopes": scopes}} if scopes is not None else {}
    known = {"method": method, "target": target, "path": target.removeprefix("/").split("/"), "time": 0}
    return {**known, "anthropic": False, "directory": True, **caller}


def granted(rendered: Rendered) -> dict[Access, str]:
    """What the bundle allows. Rules of the installation's own, which can only deny, count as not there."""
    bundle = _bundle(rendered)
    if bundle is None:
        return {}
    asked = list(itertools.product(_paths(), METHODS, _callers()))
    found = _decide(bundle.inputs["binaryData"][_FILE], [_input(*one) for one in asked])
    return {
        Access(_who(scopes), method, path): bundle.title
        for (path, method, scopes), decision in zip(asked, found, strict=True)
        if decision["allowed"] or decision["rule"] == "own_rule"
    }


def _decide(bundle: str, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _FILE
        file.write_bytes(base64.b64decode(bundle))
        done = subprocess.run(
            [str(builder.resolve(ToolName.OPA)), "decide", f"-bundle={file}"],
            input="".join(json.dumps(one) + "\n" for one in asked),
            capture_output=True,
            text=True,
            check=True,
            timeout=_LIMIT_S,
        )
    return [json.loads(line) for line in done.stdout.splitlines()]


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """What the documents of the enabled services ask for."""
    if _bundle(rendered) is None:
        return {}
    found = dict[Access, str]()
    for path, method, wanted, reason in _operations(config):
        for scopes in _callers():
            fits = wanted is None or (
                scopes is not None and (not wanted or ADMIN in scopes or not wanted.isdisjoint(scopes))
            )
            for one in ("GET", "HEAD") if method == "GET" else (method,):
                if fits:
                    found[Access(_who(scopes), one, path)] = reason
    return found


def _operations(config: PlatformConfig) -> Iterator[tuple[str, str, frozenset[str] | None, str]]:
    """Path, method, scopes of which a key needs one (none of them: any key; None: no key), and the reason."""
    records = [record for record in config.around.records.values() if not record.custom]
    for record in records:
        document = _document(record.name)
        for path, methods in document["paths"].items():
            if _owner(records, path) is not record:
                continue
            for method, operation in methods.items():
                security = operation.get("security", document.get("security")) or None
                scopes = [scope for way in security or () for names in way.values() for scope in names]
                wanted = None if security is None else frozenset(scopes)
                yield path, method.upper(), wanted, f"document of {record.name}"
        if record.document and record.prefixes:
            yield f"/openapi/{record.name}.json", "GET", None, f"document of {record.name}"
    for path in OPERATORS_DOCUMENTS:
        yield path, "GET", frozenset({ADMIN}), "documents for operators"
    yield "/", "GET", None, "the gateway's own answer"


def _owner(records: list[ServiceRecord], path: str) -> ServiceRecord | None:
    """The service whose prefix of the path is longest."""
    below = [
        (len(prefix.path), record.name, record)
        for record in records
        for prefix in record.prefixes
        if f"{path}/".startswith(f"{prefix.path.rstrip('/')}/")
    ]
    return max(below)[2] if below else None


def _holder(_: Access, rendered: Rendered) -> str:
    bundle = _bundle(rendered)
    return bundle.title if bundle else "ConfigMap of OPA's bundle"


LAYER = Layer(
    "policy",
    "Policies",
    "Which key may use which operation at the gateway. OPA evaluates the rendered bundle for every scope, every path "
    "of all documents and every method; the documents of the enabled services say what is intended.",
    granted,
    intended,
    _holder,
)
