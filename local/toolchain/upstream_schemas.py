"""Schemas of other projects, taken from pinned Go modules into the cache: tests check manifests against them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from local import paths
from local.errors import LocalError
from local.toolchain.builder import fix_of
from local.toolchain.tools import MODULES, go_version

_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PINS = MODULES / "schemas"
"""The folder whose go.mod pins each module's version, and whose go.sum pins its content."""


@dataclass(frozen=True)
class SchemaSource:
    """Where a project's schemas lie in its Go module."""

    project: str
    module: str
    files: str
    """Pattern below the module's folder. The files' own names must differ."""


SOURCES = {
    source.project: source
    for source in (
        SchemaSource("gateway-api", "sigs.k8s.io/gateway-api", "config/crd/standard/gateway.*.yaml"),
        SchemaSource("istio", "istio.io/api", "kubernetes/customresourcedefinitions.gen.yaml"),
        SchemaSource("karpenter", "github.com/aws/karpenter-provider-aws", "pkg/apis/crds/*.yaml"),
        SchemaSource("keda", "github.com/kedacore/keda/v2", "config/crd/bases/*.yaml"),
        SchemaSource("kong-deck", "github.com/kong/go-database-reconciler", "pkg/file/kong_json_schema.json"),
        SchemaSource(
            "kong-ingress-controller",
            "github.com/kong/kubernetes-configuration",
            "config/crd/ingress-controller/configuration.*.yaml",
        ),
        SchemaSource("kserve", "github.com/kserve/kserve", "config/crd/full/**/serving.*.yaml"),
        SchemaSource(
            "prometheus-operator",
            "github.com/prometheus-operator/prometheus-operator",
            "example/prometheus-operator-crd/*.yaml",
        ),
    )
}
"""The schemas that tests use, by project."""


def version(project: str) -> str:
    """The pinned version of a project's module, such as "v1.6.1"."""
    text = (PINS / "go.mod").read_text()
    match = re.search(rf"^\t{re.escape(SOURCES[project].module)} (v\S+)$", text, re.MULTILINE)
    if match is None:
        raise LocalError(f"{PINS}/go.mod does not pin {SOURCES[project].module}", fix="restore the file from git")
    return match[1]


def resolve(project: str) -> Path:
    """The folder with a project's schemas, downloaded at the first call: a JSON list of documents for each file.

    Descriptions are left out: with them, reading KServe's CRDs takes seconds in place of milliseconds.
    Raises LocalError with the reason and the fix where the module cannot be had, or is not the pinned one.
    """
    target = paths.cache() / "schemas" / f"{project}-{version(project)}"
    if target.exists():
        return target
    source = SOURCES[project]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        module = _download(source, Path(scratch))
        found = sorted(module.glob(source.files))
        if not found:
            raise LocalError(
                f"{source.module} {version(project)} has no file {source.files}",
                fix="correct the pattern in local/toolchain/upstream_schemas.py",
            )
        taken = Path(scratch) / "taken"
        taken.mkdir()
        for file in found:
            (taken / f"{file.stem}.json").write_text(json.dumps(list(_documents(file))))
        _publish(taken, target)
    return target


def resolve_all(projects: Iterable[str] = tuple(SOURCES)) -> dict[str, Path]:
    """The folders of all projects that tests use."""
    return {project: resolve(project) for project in projects}


def _download(source: SchemaSource, scratch: Path) -> Path:
    """The folder of the module in Go's module cache, its content checked against go.sum."""
    go_version()  # its error names the fix where there is no compiler
    for name in ("go.mod", "go.sum"):
        shutil.copyfile(PINS / name, scratch / name)
    pinned = (scratch / "go.sum").read_text()
    result = subprocess.run(
        ["go", "mod", "download", "-json", f"{source.module}@{version(source.project)}"],
        cwd=scratch,
        env={**os.environ, "GOFLAGS": "-mod=mod", "GOWORK": "off"},
        capture_output=True,
        text=True,
    )
    answer = json.loads(result.stdout) if result.stdout.strip() else {}
    reason = answer.get("Error") or (result.stderr if result.returncode else "")
    if not reason and (scratch / "go.sum").read_text() != pinned:
        reason = f"{PINS}/go.sum has no checksum of it"  # Go has added the one that it found
    if reason:
        raise LocalError(
            f"the schemas of {source.project} {version(source.project)} cannot be had",
            reason=reason,
            fix=fix_of(reason) or "restore local/toolchain/schemas from git",
        )
    return Path(answer["Dir"])


class _Loader(_SafeLoader):
    """Reads a bare `=` as text, as YAML 1.2 and Kubernetes do; PyYAML knows it as a tag that it cannot construct."""


_Loader.add_constructor("tag:yaml.org,2002:value", _SafeLoader.construct_yaml_str)


def _documents(file: Path) -> Iterator[Any]:
    """The documents of a YAML or JSON file, without descriptions."""
    return (_terse(document) for document in yaml.load_all(file.read_text(), Loader=_Loader) if document)


def _terse(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _terse(v) for k, v in value.items() if not (k == "description" and isinstance(v, str))}
    return [_terse(v) for v in value] if isinstance(value, list) else value


def _publish(taken: Path, target: Path) -> None:
    try:
        taken.rename(target)
    except OSError:
        if not target.exists():  # another run has been faster
            raise
