"""Audit: its intent, and the secrets that never change."""

from __future__ import annotations

import pulumi

from components.ai import bundled
from components.ai.service import AiServiceArgs
from components.base import PlatformComponent
from components.config.observability import Observability
from components.config.services import Bundled
from components.data.layer import DataLayer
from components.security.logins import Logins

NAME = "audit"
_KEYS = "audit-keys"


class Audit(PlatformComponent):
    """The service, and the secrets that its log is signed and sealed with.

    These outlive rotations: with other ones, old checkpoints could not be verified, nor old entries read.
    """

    url: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        config: Bundled,
        observability: Observability,
        args: AiServiceArgs,
        data: DataLayer,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai", f"{name}-part", {}, opts)
        keys = Logins(
            f"{name}-keys",
            {"namespace": args["namespace"], "logins": {_KEYS: ["signing", "sealing"]}, "generation": 1},
            self.child(protect=True) if data.keeps else self.child(),
        )
        secrets: dict[str, tuple[pulumi.Input[str], str]] = {
            "SERVICE_SIGNING_SECRET": (keys.secret(_KEYS), "signing"),
            "SERVICE_SEALING_SECRET": (keys.secret(_KEYS), "sealing"),
        }
        environment = {**args.get("environment", {}), "SERVICE_BACKUP_DAYS": str(data.backup_days)}
        inputs: AiServiceArgs = {**args, "secrets": {**args.get("secrets", {}), **secrets}, "environment": environment}
        service = bundled.make(name, NAME, config, observability, inputs, data, self.child())
        self.url, self.ports = service.url, service.ports
        self.finish(
            {
                "kind": "Deployment",
                "namespace": args["namespace"],
                "name": NAME,
                "probe": "its log can be read and events are taken",
            },
            url=self.url,
        )
