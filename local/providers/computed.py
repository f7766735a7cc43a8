"""Base of stand-ins for providers whose resources are values that are computed once and stored in the state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2

from local.providers import sdk_types, wire
from local.providers.kubernetes import diff
from local.providers.server import Provider, ProviderError
from local.providers.wire import UNKNOWN

Values = dict[str, Any]


@dataclass(frozen=True)
class Computed:
    """A resource type: how its outputs are computed from its inputs."""

    compute: Callable[[Values], tuple[str, Values]]
    """Function from plain inputs to (ID, outputs)."""
    secret: tuple[str, ...] = ()
    """Names of secret outputs."""
    outputs: tuple[str, ...] = ()
    """Names of outputs that are unknown in previews."""
    defaults: tuple[tuple[str, Any], ...] = ()
    """Default inputs of the real provider."""


class ComputedProvider(Provider):
    """Provider of computed resources. Any changed input computes a new value."""

    resources: dict[str, Computed]

    def _resource(self, urn: str) -> Computed:
        token = urn.split("::")[2].split("$")[-1]
        if token not in self.resources:
            known = ", ".join(self.resources)
            raise ProviderError(f"the stand-in for {self.package} has {known}; {token} needs the real plugin")
        return self.resources[token]

    def Check(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        """Validate against the SDK's types and fill in defaults."""
        resource = self._resource(request.urn)
        inputs = {**dict(resource.defaults), **wire.decode_struct(request.news)}
        cls = sdk_types.arguments_type(request.urn.split("::")[2].split("$")[-1])
        found = sdk_types.problems(inputs, cls) if cls else ()
        failures = [provider_pb2.CheckFailure(property=path, reason=reason) for path, reason in found]
        return provider_pb2.CheckResponse(inputs=wire.encode_struct(inputs), failures=failures)

    def Diff(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        """Any change requires replacement."""
        changes = list(diff.compare(wire.decode_struct(request.old_inputs), wire.decode_struct(request.news)))
        names = sorted({str(c.path[0]) for c in changes} - set(request.ignoreChanges))
        response = provider_pb2.DiffResponse
        return response(changes=response.DIFF_SOME if names else response.DIFF_NONE, replaces=names, diffs=names)

    def Create(self, request: Any, context: Any) -> provider_pb2.CreateResponse:
        """Compute the value."""
        resource = self._resource(request.urn)
        inputs = wire.decode_struct(request.properties)
        if request.preview:
            outputs = {**inputs, **dict.fromkeys(resource.outputs, UNKNOWN)}
            return provider_pb2.CreateResponse(properties=wire.encode_struct(outputs))
        identifier, computed = resource.compute(wire.reveal(inputs))
        paths = set(wire.secret_paths(inputs)) | {(name,) for name in resource.secret}
        outputs = wire.conceal({**wire.reveal(inputs), **computed}, paths)
        return provider_pb2.CreateResponse(id=identifier, properties=wire.encode_struct(outputs))

    def Read(self, request: Any, context: Any) -> provider_pb2.ReadResponse:
        """Return the state, which is the only copy."""
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def Delete(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Do nothing: the engine removes the value from the state."""
        return empty_pb2.Empty()
