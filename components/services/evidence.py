"""What the deployment knows about its images and the policies in force, as the Portal shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi

from components import catalogue
from components.base import gathered
from components.config.images import ImageSource
from components.config.platform import PlatformConfig
from components.stage import Stage

VARIABLE = "SERVICE_EVIDENCE"


def rendered(stage: Stage) -> pulumi.Output[str]:
    """What `text` gives. It is unknown in a preview as long as an image is."""
    return gathered(stage.images).apply(lambda references: text(stage.config, references))


def text(config: PlatformConfig, references: Mapping[str, str]) -> str:
    """JSON, as `portal.evidence.Evidence` reads it. `references`: images that pods run, by name."""
    return json.dumps(
        {
            "platform": catalogue.platform_version(),
            "source": config.images.source.value,
            "policies": policies(config),
            "images": [_image(name, reference) for name, reference in sorted(references.items())],
        }
    )


def _image(name: str, reference: str) -> dict[str, Any]:
    own = name in catalogue.image_names()
    return {"name": name, "version": catalogue.image(name).version if own else "", "reference": reference, "own": own}


def policies(config: PlatformConfig) -> list[dict[str, Any]]:
    """Policies that the environment's parts enforce: title, whether it is in force, and what it means here."""
    released = config.images.source is ImageSource.REGISTRY
    images = "released images of this version and the one before" if released else "images that this installation built"
    network = config.cluster.network_policies.value
    data, mesh = config.data.destroy_data, config.mesh.mode.value
    store, opa = config.security.secret_store, config.security.opa
    return [
        _policy("Images", True, f"pods run {images}, by digest; an update verifies each signature first"),
        _policy("Pods", True, "admission refuses pods with more rights than the platform's pods need"),
        _policy("Data", not data, "data.destroyData is set" if data else "admission refuses the deletion of volumes"),
        _policy("Network", network == "enforced", f"cluster.networkPolicies is {network}"),
        _policy("Mesh", mesh != "off", f"mesh.mode is {mesh}"),
        _policy("Decisions at the gateway", opa is not None, "OPA decides about each request, besides the services"
                if opa else "services decide by the key's scopes; security.opa adds OPA"),
        _policy("Secret store", store is not None, "OpenBao issues keys and logins"
                if store else "secrets are in Kubernetes; security.secretStore adds OpenBao"),
    ]  # fmt: skip


def _policy(title: str, in_force: bool, about: str) -> dict[str, Any]:
    return {"title": title, "in_force": in_force, "about": about}
