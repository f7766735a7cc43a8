"""Go programs of the local environment. The go.mod and go.sum of its module pin each program."""

from __future__ import annotations

import functools
import hashlib
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from local import paths
from local.errors import LocalError

MODULES = Path(__file__).resolve().parent
GO_MINIMUM = (1, 26)
BUILD_TAGS = "grpcnotrace,osusergo,netgo"
"""Build tags. grpcnotrace lets the linker drop unused code; the others make the binaries static."""


class ToolName(StrEnum):
    """All tools that the builder can provide."""

    NODE = "node"
    PULUMI = "pulumi"
    PYTHON_SDK = "python-sdk"
    YAML_HOST = "yaml-host"
    COSIGN = "cosign"
    INFERENCE_SIM = "inference-sim"
    METRICS_SERVER = "metrics-server"
    OBJECT_STORE = "object-store"
    NATS_EXPORTER = "nats-exporter"
    STATSD_EXPORTER = "statsd-exporter"
    METRICS_DOOR = "metrics-door"
    OPA = "opa"
    PAUSE = "pause"
    KWOK = "kwok"
    KONG_CONTROLLER = "kong-controller"
    KSERVE = "kserve"
    WEAVIATE = "weaviate"
    PROMETHEUS = "prometheus"
    VICTORIALOGS = "victoria-logs"
    COLLECTOR = "collector"
    JAEGER = "jaeger"
    PILOT_DISCOVERY = "pilot-discovery"
    PILOT_AGENT = "pilot-agent"
    ISTIO_CNI = "istio-cni"


@dataclass(frozen=True)
class Tool:
    """A Go program: the pin of its source, how it is built, and how its version is read."""

    name: ToolName
    title: str
    module: str
    """Folder under local/toolchain with its go.mod."""
    package: str
    """Package argument of `go build`."""
    pin: str
    """Module path in go.mod whose version is the tool's version; empty for the project's own code."""
    version_flags: tuple[str, ...] = ()
    """Linker flags -X. `{v}` is replaced by the pinned version."""
    version_command: tuple[str, ...] = ()
    """Arguments that make the program print its version; empty if PATH is not searched."""
    for_tests: bool = False
    """Whether `forge up` does not need the tool. It is then built at its first use."""
    asked: bool = False
    """Whether only some environments need it. It is then built for these, at its first use."""
    tags: tuple[str, ...] = ()
    """Build tags of this program, besides `BUILD_TAGS`."""
    files: tuple[str, ...] = ()
    """Files of the pinned module that the program needs. They lie beside it."""
    expected_s: int = 60
    """Seconds of a build from nothing on two cores, in the order of `TOOLS`, measured 2026-11."""

    @property
    def folder(self) -> Path:
        """Folder of the module."""
        return MODULES / self.module

    @functools.cached_property
    def version(self) -> str:
        """Pinned version, such as "v1.34.10", read from go.mod."""
        if not self.pin:
            return "v0.1.0"
        text = (self.folder / "go.mod").read_text()
        match = re.search(rf"^\s*(?:require )?{re.escape(self.pin)} (v\S+)", text, re.MULTILINE)
        if match is None:
            raise LocalError(f"{self.folder}/go.mod does not pin {self.pin}", fix="restore the file from git")
        return match[1]

    @property
    def build_tags(self) -> str:
        """All build tags, as `go build -tags` takes them."""
        return ",".join((BUILD_TAGS, *self.tags))

    @property
    def ldflags(self) -> str:
        """Linker flags: they remove debug tables and set the version that the program reports."""
        return " ".join(["-s -w", *(f"-X {flag.format(v=self.version)}" for flag in self.version_flags)])

    def key(self) -> str:
        """Hash of everything that determines the binary: pins, own source, flags, Go version, machine."""
        digest = hashlib.sha256()
        sources = [self.folder / "go.mod", self.folder / "go.sum"]
        own = self.folder / self.package if self.package.startswith("./") else self.folder
        if self.package.startswith("."):
            sources += sorted(own.glob("*.go"))
        for path in sources:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        for part in (self.package, self.ldflags, self.build_tags, *self.files, compiler(), platform.machine()):
            digest.update(part.encode() + b"\0")
        return digest.hexdigest()[:16]


ISTIO_BOOTSTRAP = "envoy_bootstrap.json"
"""Template of the bootstrap of a sidecar's Envoy."""
ISTIO_DEFINITIONS = "crd-all.gen.yaml"
"""Istio's custom resource definitions."""


def _istio(name: ToolName, title: str, area: str, tags: tuple[str, ...], expected_s: int, *files: str) -> Tool:
    pin = "istio.io/istio"
    flags = tuple(f"{pin}/pkg/version.build{field}" for field in ("Version={v}", "Status=Clean"))
    package = f"{pin}/{area}/cmd/{name}"
    more = {"for_tests": True, "asked": True, "expected_s": expected_s}
    return Tool(name, title, "istio", package, pin, flags, tags=tags, files=files, **more)


_K8S = "k8s.io/component-base/version"
TOOLS: dict[ToolName, Tool] = {
    tool.name: tool
    for tool in (
        Tool(ToolName.PAUSE, "pause (pod sandbox)", "tools", "./pause", "", expected_s=5),
        Tool(
            ToolName.NODE,
            "Kubernetes, etcd and CoreDNS in one binary",
            "node",
            ".",
            "k8s.io/kubernetes",
            (
                f"{_K8S}.gitVersion={{v}}",
                f"{_K8S}.gitMajor=1",
                f"{_K8S}.gitMinor=34",
                f"{_K8S}.gitTreeState=clean",
                f"{_K8S}.gitCommit=unknown",
                f"{_K8S}.buildDate=1970-01-01T00:00:00Z",
                "k8s.io/client-go/pkg/version.gitVersion={v}",
            ),
            expected_s=540,
        ),
        Tool(
            ToolName.PULUMI,
            "Pulumi CLI and engine",
            "tools",
            "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
            "github.com/pulumi/pulumi/pkg/v3",
            ("github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={v}",),
            ("version",),
            expected_s=240,
        ),
        Tool(
            ToolName.COSIGN,
            "cosign",
            "tools",
            "./cosign",
            "github.com/sigstore/cosign/v3",
            ("sigs.k8s.io/release-utils/version.gitVersion={v}",),
            ("version",),
            expected_s=150,
        ),
        Tool(
            ToolName.INFERENCE_SIM,
            "vLLM simulator",
            "tools",
            "./inference-sim",
            "github.com/llm-d/llm-d-inference-sim",
            expected_s=120,
        ),
        Tool(
            ToolName.METRICS_SERVER,
            "metrics-server",
            "tools",
            "sigs.k8s.io/metrics-server/cmd/metrics-server",
            "sigs.k8s.io/metrics-server",
            ("k8s.io/client-go/pkg/version.gitVersion={v}",),
            expected_s=60,
        ),
        Tool(
            ToolName.OBJECT_STORE,
            "S3 gateway",
            "objectstore",
            "./gateway",
            "github.com/versity/versitygw",
            ("main.Version={v}",),
            expected_s=90,
        ),
        Tool(
            ToolName.NATS_EXPORTER,
            "NATS' metrics",
            "exporters",
            "github.com/nats-io/prometheus-nats-exporter",
            "github.com/nats-io/prometheus-nats-exporter",
            expected_s=55,
        ),
        Tool(
            ToolName.STATSD_EXPORTER,
            "statsd's metrics",
            "exporters",
            "github.com/prometheus/statsd_exporter",
            "github.com/prometheus/statsd_exporter",
            expected_s=10,
        ),
        Tool(ToolName.METRICS_DOOR, "door of exporters", "tools", "./metrics-door", "", expected_s=10),
        Tool(
            ToolName.OPA,
            "OPA with ext_authz",
            "opa",
            ".",
            "github.com/open-policy-agent/opa",
            ("github.com/open-policy-agent/opa/v1/version.Version={v}",),
            for_tests=True,
            expected_s=150,
        ),
        Tool(
            ToolName.PYTHON_SDK,
            "Pulumi's generator of Python SDKs",
            "tools",
            "./python-sdk",
            "github.com/pulumi/pulumi/pkg/v3",
            for_tests=True,
            expected_s=10,
        ),
        Tool(
            ToolName.YAML_HOST,
            "Pulumi's language host for YAML",
            "yaml",
            ".",
            "github.com/pulumi/pulumi-yaml",
            ("github.com/pulumi/pulumi-yaml/pkg/version.Version={v}",),
            for_tests=True,
            expected_s=60,
        ),
        Tool(
            ToolName.KWOK,
            "KWOK (fake nodes)",
            "kwok",
            "sigs.k8s.io/kwok/cmd/kwok",
            "sigs.k8s.io/kwok",
            ("sigs.k8s.io/kwok/pkg/consts.Version={v}",),
            ("--version",),
            for_tests=True,
            expected_s=180,
        ),
        Tool(
            ToolName.KONG_CONTROLLER,
            "Kong's ingress controller",
            "kong",
            "github.com/kong/kubernetes-ingress-controller/v3/internal/cmd",
            "github.com/kong/kubernetes-ingress-controller/v3",
            for_tests=True,
            asked=True,
            expected_s=300,
        ),
        Tool(
            ToolName.KSERVE,
            "KServe's controller",
            "kserve",
            "github.com/kserve/kserve/cmd/manager",
            "github.com/kserve/kserve",
            for_tests=True,
            asked=True,
            expected_s=240,
        ),
        Tool(
            ToolName.WEAVIATE,
            "Weaviate",
            "weaviate",
            "github.com/weaviate/weaviate/cmd/weaviate-server",
            "github.com/weaviate/weaviate",
            for_tests=True,
            asked=True,
            expected_s=200,
        ),
        # Of the discovery mechanisms, the one for Kubernetes alone: the others bring the SDKs of all clouds.
        Tool(
            ToolName.PROMETHEUS,
            "Prometheus",
            "prometheus",
            "github.com/prometheus/prometheus/cmd/prometheus",
            "github.com/prometheus/prometheus",
            ("github.com/prometheus/common/version.Version={v}",),
            for_tests=True,
            asked=True,
            tags=("remove_all_sd", "enable_kubernetes_sd"),
            expected_s=500,
        ),
        Tool(
            ToolName.VICTORIALOGS,
            "VictoriaLogs",
            "victorialogs",
            "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs",
            "github.com/VictoriaMetrics/VictoriaLogs",
            ("github.com/VictoriaMetrics/VictoriaMetrics/lib/buildinfo.Version=victoria-logs-{v}",),
            for_tests=True,
            asked=True,
            expected_s=45,
        ),
        Tool(
            ToolName.COLLECTOR,
            "OpenTelemetry Collector",
            "collector",
            ".",
            "go.opentelemetry.io/collector/otelcol",
            ("main.version={v}",),
            for_tests=True,
            asked=True,
            expected_s=540,
        ),
        Tool(
            ToolName.JAEGER,
            "Jaeger",
            "jaeger",
            "github.com/jaegertracing/jaeger/cmd/jaeger",
            "github.com/jaegertracing/jaeger",
            ("github.com/jaegertracing/jaeger/internal/version.latestVersion={v}",),
            for_tests=True,
            asked=True,
            expected_s=610,
        ),
        # As upstream builds them: vtprotobuf is the faster encoder, disable_pgv leaves validators out, and with `agent`
        # the agent has no part of the control plane.
        _istio(ToolName.PILOT_DISCOVERY, "Istio's control plane", "pilot", ("vtprotobuf", "disable_pgv"), 600),
        _istio(
            ToolName.PILOT_AGENT,
            "Istio's agent of sidecars",
            "pilot",
            ("agent", "disable_pgv"),
            40,
            f"tools/packaging/common/{ISTIO_BOOTSTRAP}",
        ),
        _istio(
            ToolName.ISTIO_CNI,
            "Istio's CNI plugin",
            "cni",
            ("agent", "disable_pgv"),
            30,
            f"manifests/charts/base/files/{ISTIO_DEFINITIONS}",
        ),
    )
}


@functools.cache
def compiler() -> str:
    """Version of Go for the cache's keys. Raises LocalError if it is unknown.

    Without Go on PATH, it is the version of the last build, since cached tools run without the compiler.
    """
    record = paths.cache() / "tools" / "go-version"
    if shutil.which("go") is None and record.exists():
        return record.read_text()
    version = go_version()
    if not record.exists() or record.read_text() != version:
        paths.write_private(record, version)
    return version


@functools.cache
def go_version() -> str:
    """Version of Go on PATH, such as "go1.26.8". Raises LocalError if Go is missing or too old."""
    fix = f"install Go {GO_MINIMUM[0]}.{GO_MINIMUM[1]} or newer (https://go.dev/dl) and put it on PATH"
    try:
        output = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise LocalError("Go is not installed", reason="no `go` on PATH", fix=fix) from None
    except subprocess.CalledProcessError as error:
        raise LocalError("Go does not run", reason=error.stderr, fix=fix) from None
    version = output.strip()
    match = re.match(r"go(\d+)\.(\d+)", version)
    if match is None or (int(match[1]), int(match[2])) < GO_MINIMUM:
        raise LocalError(f"Go is too old: {version}", fix=fix)
    return version
