"""Common base of the provider stand-ins: gRPC server, handshake, error mapping."""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.rpc import code_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from local.providers import wire
from local.providers.ending import Ending

GRACE_S = 1.0
"""Seconds that running calls get when the plugin has to end."""
_MAX_MESSAGE = 400 * 1024 * 1024
_OPTIONS = [("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.max_send_message_length", _MAX_MESSAGE)]
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
"""Option of a channel to an engine: a process that outlives many of them would share the connection of one that has
ended, which waits before its next attempt, with another that got the same port."""


class ProviderError(Exception):
    """A failure. The engine shows its message to the user unchanged."""


class InitFailed(Exception):
    """The object exists, but did not become ready. The engine records it and shows the reasons."""

    def __init__(self, identifier: str, properties: dict[str, Any], inputs: dict[str, Any], reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.identifier, self.properties, self.inputs, self.reasons = identifier, properties, inputs, reasons


class Log:
    """Sends messages to the engine, which shows them with the resource."""

    def __init__(self, address: str | None) -> None:
        self._stub = None
        if address:
            self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address, options=[*_OPTIONS, OWN_CONNECTION]))

    def _send(self, severity: int, urn: str, message: str, ephemeral: bool) -> None:
        if self._stub is not None:
            self._stub.Log(engine_pb2.LogRequest(severity=severity, message=message, urn=urn, ephemeral=ephemeral))

    def status(self, urn: str, message: str) -> None:
        """Show progress, which replaces the last status."""
        self._send(engine_pb2.INFO, urn, message, True)

    def warning(self, urn: str, message: str) -> None:
        """Show a permanent message."""
        self._send(engine_pb2.WARNING, urn, message, False)


def _mapped(
    method: Callable[[Any, Any, grpc.ServicerContext], Any],
) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
    """Convert a ProviderError to a gRPC status, so that users see no traceback."""

    @functools.wraps(method)
    def call(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except InitFailed as failure:
            return _abort_init(context, failure)
        except ProviderError as error:
            return context.abort(grpc.StatusCode.UNKNOWN, str(error))

    return call


@dataclass
class _Status(grpc.Status):
    """A gRPC status with a detail message, for grpcio's `abort_with_status`."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def _abort_init(context: grpc.ServicerContext, failure: InitFailed) -> None:
    detail = any_pb2.Any()
    detail.Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=failure.identifier,
            properties=wire.encode_struct(failure.properties),
            inputs=wire.encode_struct(failure.inputs),
            reasons=failure.reasons,
        )
    )
    status = status_pb2.Status(code=code_pb2.UNKNOWN, message=str(failure), details=[detail])
    trailer = (("grpc-status-details-bin", status.SerializeToString()),)
    context.abort_with_status(_Status(grpc.StatusCode.UNKNOWN, str(failure), trailer))


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """Base class of the stand-ins, with everything that does not depend on resource types."""

    package: str
    """Name of the plugin, such as "kubernetes"."""
    sdk: str
    """Python distribution whose version the plugin reports, such as "pulumi-kubernetes"."""

    def __init__(self) -> None:
        self.log = Log(sys.argv[1] if len(sys.argv) > 1 else None)
        self.cancelled = threading.Event()

    def Handshake(self, request: Any, context: Any) -> provider_pb2.ProviderHandshakeResponse:
        """Announce the provider's features to the engine."""
        if request.engine_address:
            self.log = Log(request.engine_address)
        return provider_pb2.ProviderHandshakeResponse(
            accept_secrets=True,
            accept_resources=False,
            accept_outputs=False,
            supports_autonaming_configuration=True,
        )

    def GetPluginInfo(self, request: Any, context: Any) -> plugin_pb2.PluginInfo:
        """Report the SDK's version, since program and plugin must match."""
        return plugin_pb2.PluginInfo(version=metadata.version(self.sdk))

    def Attach(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Connect to an engine that did not start this process."""
        self.cancelled.clear()  # an interruption by an earlier engine no longer counts
        self.log = Log(request.address)
        return empty_pb2.Empty()

    def GetSchema(self, request: Any, context: Any) -> provider_pb2.GetSchemaResponse:
        """Return the name only. Inputs are checked against the SDK's types instead of a schema."""
        return provider_pb2.GetSchemaResponse(
            schema=json.dumps({"name": self.package, "version": metadata.version(self.sdk)})
        )

    def CheckConfig(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        """Accept the provider's own configuration."""
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        """Report no changes: a changed configuration never replaces resources."""
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_UNKNOWN)

    def Configure(self, request: Any, context: Any) -> provider_pb2.ConfigureResponse:
        """Announce support for secrets and previews."""
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True,
            supportsPreview=True,
            acceptResources=False,
            supports_autonaming_configuration=True,
        )

    def Cancel(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Stop waiting, because the user has interrupted the operation."""
        self.cancelled.set()
        return empty_pb2.Empty()


def serve(provider: Provider) -> None:
    """Run a provider until the engine ends it."""
    for name in ("Check", "Diff", "Create", "Read", "Update", "Delete", "Invoke", "Configure"):
        if (method := getattr(type(provider), name, None)) is not None:
            setattr(type(provider), name, _mapped(method))
    ended = Ending()
    ended.on_signals()
    ended.with_parent()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    ended.wait()
    provider.cancelled.set()
    server.stop(GRACE_S).wait()  # running calls, such as Cancel, still get their answer
    # Exit explicitly: on return, the interpreter would wait for threads whose caller has ended, and they could write.
    os._exit(0)
