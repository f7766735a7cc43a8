"""Renders an environment without engine, cluster or network: the program runs, and its objects are recorded."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any

import pulumi
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from components.config.platform import PlatformConfig
from policies.access.objects import Object, Rendered, plain

_GENERATED = {
    "result": "x" * 40,
    "privateKeyPem": "key",
    "privateKeyPemPkcs8": "key",
    "certPem": "cert",
    "certRequestPem": "request",
}
"""Outputs of providers that generate keys and passwords."""


class Recorder(pulumi.runtime.Mocks):
    """Records every resource. Outputs are the inputs, and what providers generate."""

    def __init__(self) -> None:
        self.resources: list[pulumi.runtime.MockResourceArgs] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """Record a resource."""
        self.resources.append(args)
        inputs = {**args.inputs}
        if args.typ.startswith("kubernetes:"):
            inputs |= {"metadata": {"name": args.name, **(args.inputs.get("metadata") or {})}, "status": {}}
        elif args.typ.startswith("aws:"):
            # Policies name other resources by these outputs.
            service = args.typ.removeprefix("aws:").partition("/")[0]
            inputs = {"name": args.name, "arn": f"arn:aws:{service}:::{args.inputs.get('bucket', args.name)}", **inputs}
        # What is signed with a key, such as bundles of policies, is signed here, too.
        signs = {"privateKeyPem": _rsa_key()} if args.inputs.get("algorithm") == "RSA" else {}
        return f"{args.name}-id", {**inputs, **_GENERATED, **signs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        """No function has an answer."""
        return {}


@functools.cache
def _rsa_key() -> str:
    """A key for nothing but these objects, PEM."""
    key = rsa.generate_private_key(65537, 2048)
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def render(config: PlatformConfig, name: str | None = None) -> Rendered:
    """The objects of an environment. `name`: its name; the default is its stage."""
    recorder = Recorder()
    record(config, name, recorder)
    return read(recorder.resources)


def record(config: PlatformConfig, name: str | None, recorder: Recorder) -> None:
    """Run the program of an environment with a recorder in place of the engine."""
    from components.platform import Platform  # a late import: the SDKs of the providers take seconds to load

    logger = logging.Logger("render")  # nothing is shown: images without a digest are the business of a preview
    logger.addHandler(logging.NullHandler())
    run(recorder, lambda: Platform(config, name=name), logger=logger)


def run(
    recorder: pulumi.runtime.Mocks,
    program: Callable[[], object],
    *,
    project: str | None = None,
    preview: bool = True,
    logger: logging.Logger | None = None,
) -> None:
    """Run a program with a recorder in place of the engine, and wait for all that it registers."""
    from pulumi.runtime.settings import SETTINGS
    from pulumi.runtime.stack import wait_for_rpcs

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pulumi.runtime.set_mocks(recorder, project=project, preview=preview, logger=logger)
    # The SDK still waits for outputs of an earlier program that has failed, whose event loop is closed.
    SETTINGS.outputs = set()

    async def completed() -> None:
        try:
            program()
        finally:  # a refused component may have registered others
            await wait_for_rpcs()

    try:
        loop.run_until_complete(completed())
    finally:
        loop.close()


def read(resources: Iterable[pulumi.runtime.MockResourceArgs]) -> Rendered:
    """The objects that a recorder has seen."""
    return Rendered(Object(one.typ, one.name, plain(one.inputs)) for one in resources)
