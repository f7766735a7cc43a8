"""The Go modules of the tools: packages that several tools use are compiled once."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from local.toolchain.tools import MODULES, TOOLS

FAMILIES = (
    "k8s.io/",
    "google.golang.org/grpc",
    "google.golang.org/protobuf",
    "go.opentelemetry.io/",
    "github.com/prometheus/",
)
"""Libraries that most tools use. A package is compiled again for each of its versions and of its dependencies."""
FOLDERS = sorted({tool.module for tool in TOOLS.values()})
APART = {"istio", "jaeger"}
"""Istio's snapshot and Jaeger keep the versions of their authors, except for gRPC and protobuf. Only environments that
ask for them build them."""
NODE_REQUIRES_OTHERS = {"k8s.io/apiextensions-apiserver", "k8s.io/component-helpers"}
"""The node requires these as Kubernetes does (v0.0.0, v0.34.10); their replacement is the common version."""
UNLIKE = {
    # KWOK cannot use the node's version: it needs fields of the log options that 0.34 does not export.
    "k8s.io/cri-api",
    "k8s.io/cri-client",
    # A library of the vLLM simulator in an older version, and a program of its own, which needs the collector's 1.63.
    "github.com/prometheus/prometheus",
    "go.opentelemetry.io/collector/featuregate",
    "go.opentelemetry.io/collector/pdata",
    # Weaviate's is older than Prometheus can use.
    "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp",
}
"""Modules in several versions, for a reason."""
_COLLECTOR = "go.opentelemetry.io/collector/"
"""Prometheus needs newer versions of these than the collector, of which not all components are to be had."""

_REQUIRED = re.compile(r"^(?:require )?\t?(\S+) (v\S+)(?: // indirect)?$", re.MULTILINE)
_REPLACED = re.compile(r"^(?:replace )?\t?(\S+) => \S+ (v\S+)$", re.MULTILINE)


def _versions(folder: str) -> dict[str, tuple[str, str]]:
    """Required and used version of each module of the families.

    Go includes both in the identity of a compiled package; with `-trimpath`, the required one too.
    """
    text = (MODULES / folder / "go.mod").read_text()
    replaced = dict(_REPLACED.findall(text))
    return {
        module: ("" if module in NODE_REQUIRES_OTHERS else required, replaced.get(module, required))
        for module, required in _REQUIRED.findall(text)
        if module.startswith(FAMILIES)
        and module not in UNLIKE
        and not (folder == "prometheus" and _COLLECTOR in module)
    }


def test_all_go_modules_use_one_version_of_the_common_libraries() -> None:
    found: dict[str, dict[tuple[str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for folder in (folder for folder in FOLDERS if folder not in APART):
        for module, version in _versions(folder).items():
            found[module][version].append(folder)
    assert len(found) > 60
    assert {module: dict(versions) for module, versions in found.items() if len(versions) > 1} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_go_module_names_its_programs(folder: str) -> None:
    """Otherwise `go mod tidy` would remove the requirements."""
    text = (MODULES / folder / "go.mod").read_text()
    packages = {t.package for t in TOOLS.values() if t.module == folder and not t.package.startswith(".")}
    assert {
        package for package in packages if not re.search(rf"^(?:tool |\t){re.escape(package)}$", text, re.M)
    } == set()
