"""Releases that the upgrade drill moves between: copies of the project, one with older pins of the data layer."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from local.images import maven
from local.toolchain import shim
from tests.e2e.checkout import Checkout

NAMESPACE, STACK = "drill", "local-drill"
MOVES = {
    "kafka": ("4.2.0", "4.3.1"),
    "nats": ("2.14.6", "2.15.1"),
    "object-store": ("1.7.0", "1.8.0"),
    "postgres": ("16.11.0", "16.14.0"),
    "schema-registry": ("3.3.2", "3.3.3"),
}
"""Images, each with its earlier and its current version."""
DEBEZIUM = ("3.3.0", "3.3.1")


class Release(Checkout):
    """A copy of the project with other versions of some parts for the drill's environment on the local node."""

    def __init__(self, folder: Path, older: bool) -> None:
        super().__init__(folder)
        own = shim.environment()
        for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PATH"):
            self._env.pop(name, None)
            if name in own:
                self._env[name] = own[name]
        (self.folder / "stacks" / f"Pulumi.{STACK}.yaml").write_text(
            yaml.safe_dump({"config": {"cogniforge:platform": configuration()}})
        )
        if older:
            self._pin_older()

    def _pin_older(self) -> None:
        images, module = self.folder / "service_images", self.folder / "local/toolchain/objectstore"
        for image, move in MOVES.items():
            _older(self.lock, f"{image}: {{version: %s,", move)
        for image in ("nats", "postgres"):
            shutil.copy(_pins(image), images / image / "requirements.lock")
        for image in ("kafka", "schema-registry"):
            shutil.copy(_pins(image), images / image / "jars.lock")
        _older(images / "kafka/pom.xml", "<kafka>%s<", MOVES["kafka"])
        _older(images / "kafka/pom.xml", "<debezium>%s.Final<", DEBEZIUM)
        _older(self.lock, "debezium: %s", DEBEZIUM)
        _older(images / "schema-registry/pom.xml", "<version>%s<", MOVES["schema-registry"])
        maven.jars(images / "schema-registry", fetch=_registry_alone)
        _older(module / "go.mod", "versitygw v%s\n", MOVES["object-store"])
        with (module / "go.sum").open("a") as sums:
            sums.write(_pins("object-store").read_text())

    def up(self) -> None:
        """Create or update the environment."""
        self.forge("up", "-s", STACK)


def _pins(image: str) -> Path:
    return Path(__file__).with_name("older") / f"{image}-{MOVES[image][0]}.lock"


def _registry_alone(folder: Path, output: Path) -> dict[str, maven.Artifact]:
    """The registry's only file without its source POMs, since not every repository has this version's."""
    (locked,) = maven.read_lock(folder)
    what = f"-Dartifact={locked.group}:{locked.name}:{locked.version}:tar.gz:all"
    command = ["mvn", "-q", "-B", "dependency:copy", what, f"-DoutputDirectory={output}"]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    (file,) = output.iterdir()
    file.chmod(0o644)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {file.name: dataclasses.replace(locked, file=file.name, sha256=digest)}


def _older(file: Path, words: str, move: tuple[str, str]) -> None:
    """Replace the current version, which occurs once, with the earlier one."""
    before, now = (words % version for version in move)
    text = file.read_text()
    assert text.count(now) == 1, f"{file} has {now!r} {text.count(now)} times"
    file.write_text(text.replace(now, before))


def configuration() -> dict[str, Any]:
    """The smallest environment with data servers, three brokers, and the services whose logins the loads use.

    It asks for little CPU: the local environment, which stays up, has taken most of a machine with two cores.
    """
    small = {"cpu": "10m", "memory": "192Mi"}
    used = {"prompt", "billing", "audit", "retriever", "embeddings"}
    return {
        "environment": "local",
        "owner": "the drill",
        "cluster": {"kind": "local", "namespace": NAMESPACE},
        "images": {"source": "local-build"},
        "gateway": {"hosts": ["localhost"], "port": 8448, "resources": small},
        "models": [{"name": "demo", "resources": small}],
        "services": {"router": {"resources": small}}
        | {name: {"resources": {"cpu": "10m", "memory": "448Mi"}} for name in sorted(used)},
        "data": {
            "destroyData": True,
            "nats": {"replicas": 1, "storage": "256Mi", "resources": {"cpu": "20m", "memory": "64Mi"}},
            "kafka": {
                "replicas": 3,
                "storage": "512Mi",
                "partitions": 3,
                "resources": {"cpu": "20m", "memory": "640Mi"},
            },
            "postgres": {"storage": "512Mi", "resources": {"cpu": "20m", "memory": "192Mi"}},
            "objectStore": {"storage": "512Mi", "resources": {"cpu": "20m", "memory": "128Mi"}},
            "schemaRegistry": {"resources": {"cpu": "20m", "memory": "640Mi"}},
            "changeDataCapture": {"resources": {"cpu": "20m", "memory": "640Mi"}},
            "vectorDatabase": {"collections": [{"name": "documents", "dimension": 384}]},
            "cache": {"persistence": "always", "storage": "128Mi", "resources": {"cpu": "20m", "memory": "64Mi"}},
        },
    }
