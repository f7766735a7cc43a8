"""Stand-in for the aws provider: previews, and updates of a simulated account. It never accesses AWS."""

from __future__ import annotations

import functools
import os
import secrets
from pathlib import Path
from typing import Any

import pulumi
import tenacity
from google.protobuf import empty_pb2
from pulumi import _types as pulumi_types
from pulumi.runtime.proto import provider_pb2

from local.providers import sdk_types, wire
from local.providers.aws import checks, kinds
from local.providers.aws.account import Account, Throttled
from local.providers.kubernetes import diff
from local.providers.server import InitFailed, Provider, ProviderError
from local.providers.wire import UNKNOWN, UNKNOWN_TEXT

FOLDER_VARIABLE = "COGNIFORGE_SIMULATED_AWS"
"""Environment variable with the folder of the simulated account. Without it, only previews work."""
_ATTEMPTS = 6
_READS = 20


def _retried() -> tenacity.Retrying:
    """Retries throttled calls, like the real provider, but with shorter waits."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Throttled),
        wait=tenacity.wait_exponential_jitter(0.02, 0.5),
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        reraise=True,
    )


class Aws(Provider):
    """Provider for the resource tokens of pulumi-aws."""

    package = "aws"
    sdk = "pulumi-aws"

    def __init__(self) -> None:
        super().__init__()
        self._region = "us-east-1"
        self._state = ""
        self._recorded: dict[str, set[str]] = {}
        """IDs of the resources in the state, by URN."""

    def Configure(self, request: Any, context: Any) -> provider_pb2.ConfigureResponse:
        """Store the region."""
        settings = wire.reveal(wire.decode_struct(request.args))
        if isinstance(settings.get("region"), str):
            self._region = settings["region"]
        self._state = "" if request.id == UNKNOWN_TEXT else request.id
        return super().Configure(request, context)

    def Invoke(self, request: Any, context: Any) -> provider_pb2.InvokeResponse:
        """Refuse functions, since they query a real account."""
        raise ProviderError(f"{request.tok} queries AWS and needs the real aws provider plugin")

    def Check(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        """Validate the inputs, and generate a required name if the program gives none."""
        token = _token(request.urn)
        olds, inputs = wire.decode_struct(request.olds), wire.decode_struct(request.news)
        kind = kinds.KINDS.get(token.removeprefix("aws:"))
        for key in [kind.named] if kind and kind.named else (kind.joined if kind else ()):
            if key in {"name", "nodeGroupName"} and inputs.get(key) is None and f"{key}Prefix" not in inputs:
                suffix = request.randomSeed[:4].hex() if request.randomSeed else secrets.token_hex(4)
                inputs[key] = olds.get(key) or f"{request.urn.split('::')[-1][:50]}-{suffix}"
        failures = [
            provider_pb2.CheckFailure(property=path, reason=reason) for path, reason in checks.problems(token, inputs)
        ]
        if reason := checks.version_step(token, olds.get("version"), inputs.get("version")):
            failures.append(provider_pb2.CheckFailure(property="version", reason=reason))
        return provider_pb2.CheckResponse(inputs=wire.encode_struct(inputs), failures=failures)

    def Diff(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        """Compare inputs. Changes that AWS does not support in place require replacement."""
        kind = self._kind(request.urn)
        self._recorded.setdefault(request.urn, set()).add(request.id)
        changes = list(diff.compare(wire.decode_struct(request.old_inputs), wire.decode_struct(request.news)))
        ignored = tuple(request.ignoreChanges)
        changes = [c for c in changes if not c.text.startswith(ignored)] if ignored else changes
        replaces = {c.text for c in changes if _within(c.text, kind.replaces)}
        detailed: dict[str, provider_pb2.PropertyDiff] = {}
        for change in changes:
            name = change.change.name + ("_REPLACE" if change.text in replaces else "")
            value = getattr(provider_pb2.PropertyDiff, name)
            detailed[change.text] = provider_pb2.PropertyDiff(kind=value, inputDiff=True)
        response = provider_pb2.DiffResponse
        return response(
            changes=response.DIFF_SOME if changes else response.DIFF_NONE,
            replaces=sorted(replaces),
            diffs=sorted({str(c.path[0]) for c in changes}),
            detailedDiff=detailed,
            hasDetailedDiff=True,
        )

    def Create(self, request: Any, context: Any) -> provider_pb2.CreateResponse:
        """Create the resource in the simulated account."""
        inputs, token = wire.decode_struct(request.properties), _token(request.urn)
        if request.preview:
            unknown = dict.fromkeys(_computed(token), UNKNOWN)
            return provider_pb2.CreateResponse(properties=wire.encode_struct({**unknown, **inputs}))
        account, kind = self._account(), self._kind(request.urn)
        plain, name = wire.reveal(inputs), request.urn.split("::")[-1]
        slug = token.removeprefix("aws:")
        client_token = f"{self._state} {request.urn}" if self._state else ""
        if made := account.created(slug, client_token, self._recorded.get(request.urn, set())):
            # An interrupted update created the resource without recording it. It is adopted and updated.
            self._await_visible(account, slug, made)
            outputs = self._changed(account, kind, slug, made, plain)
            outputs = wire.conceal(outputs, set(wire.secret_paths(inputs)))
            return provider_pb2.CreateResponse(id=made, properties=wire.encode_struct(outputs))
        failure = self._call(account, "create", slug, name)
        account.refuse_over_quota(slug, kind.quota, plain)
        identity = kinds.identifier(kind, name, plain)
        outputs = kinds.outputs(kind, identity, plain, self._region)
        account.put(slug, identity, outputs, new=True, token=client_token)
        self._await_visible(account, slug, identity)
        outputs = wire.conceal(outputs, set(wire.secret_paths(inputs)))
        if failure == "partial":
            raise InitFailed(identity, outputs, inputs, [f"{slug} {identity} was created, but did not become active"])
        return provider_pb2.CreateResponse(id=identity, properties=wire.encode_struct(outputs))

    def Update(self, request: Any, context: Any) -> provider_pb2.UpdateResponse:
        """Change the resource in the simulated account."""
        inputs, olds, kind = wire.decode_struct(request.news), wire.decode_struct(request.olds), self._kind(request.urn)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=wire.encode_struct({**olds, **inputs}))
        account, slug = self._account(), _token(request.urn).removeprefix("aws:")
        self._call(account, "update", slug, request.urn.split("::")[-1])
        outputs = self._changed(account, kind, slug, request.id, wire.reveal(inputs))
        outputs = wire.conceal(outputs, set(wire.secret_paths(inputs)))
        return provider_pb2.UpdateResponse(properties=wire.encode_struct(outputs))

    def _changed(self, account: Account, kind: kinds.Kind, slug: str, identity: str, inputs: dict[str, Any]) -> Any:
        """Properties of a resource with new inputs. Values that AWS assigned stay."""
        before = account.get(slug, identity) or {}
        kept = {k: v for k, v in before.items() if k in kinds.outputs(kind, identity, {}, self._region)}
        outputs = {**kinds.outputs(kind, identity, inputs, self._region), **kept, **inputs}
        if "vpcConfig" in kept and "vpcConfig" in outputs:
            outputs["vpcConfig"] = {**kept["vpcConfig"], **outputs["vpcConfig"]}
        account.put(slug, identity, outputs)
        return outputs

    def Read(self, request: Any, context: Any) -> provider_pb2.ReadResponse:
        """Read the resource from the simulated account."""
        slug, inputs = _token(request.urn).removeprefix("aws:"), wire.decode_struct(request.inputs)
        self._recorded.setdefault(request.urn, set()).add(request.id)
        found = self._account().get(slug, request.id)
        if found is None:
            return provider_pb2.ReadResponse()
        live = {k: found[k] for k in inputs if k in found} if inputs else found
        if isinstance(network := inputs.get("vpcConfig"), dict):  # AWS adds outputs to this object
            live["vpcConfig"] = {k: v for k, v in found["vpcConfig"].items() if k in network}
        paths = set(wire.secret_paths(inputs))
        return provider_pb2.ReadResponse(
            id=request.id,
            properties=wire.encode_struct(wire.conceal(found, paths)),
            inputs=wire.encode_struct(wire.conceal(live, paths)),
        )

    def Delete(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Delete the resource from the simulated account."""
        account, slug = self._account(), _token(request.urn).removeprefix("aws:")
        self._call(account, "delete", slug, request.urn.split("::")[-1])
        account.remove(slug, request.id)
        return empty_pb2.Empty()

    def _account(self) -> Account:
        folder = os.environ.get(FOLDER_VARIABLE)
        if not folder:
            raise ProviderError(
                "this stand-in for the aws provider only previews, and never accesses AWS. To deploy, install the "
                "real plugin (`pulumi plugin install resource aws`); `forge status` says which one is in use"
            )
        return Account(Path(folder))

    @staticmethod
    def _call(account: Account, verb: str, slug: str, name: str) -> str | None:
        """Simulate one API call with injected failures. Throttling is retried; a refusal is final."""
        try:
            for attempt in _retried():
                with attempt:
                    failure = account.failure(verb, slug, name)
                    if failure == "throttle":
                        raise Throttled
                    if failure == "denied":
                        raise ProviderError(f"AccessDenied: not authorized to {verb} {slug} {name}")
                    return failure
        except Throttled:
            raise ProviderError(
                f"ThrottlingException: {verb} {slug} {name}: rate exceeded, {_ATTEMPTS} attempts failed"
            ) from None
        return None

    @staticmethod
    def _await_visible(account: Account, slug: str, identity: str) -> None:
        for _ in range(_READS):
            if account.get(slug, identity) is not None:
                return
        raise ProviderError(f"{slug} {identity} was created, but reads do not return it")

    def _kind(self, urn: str) -> kinds.Kind:
        token = _token(urn)
        if token.removeprefix("aws:") not in kinds.KINDS:
            raise ProviderError(f"the stand-in for aws does not support {token}; install the real plugin")
        return kinds.KINDS[token.removeprefix("aws:")]


def _token(urn: str) -> str:
    return urn.split("::")[2].split("$")[-1]


def _within(path: str, fields: tuple[str, ...]) -> bool:
    return any(path == f or path.startswith((f"{f}.", f"{f}[")) for f in fields)


@functools.cache
def _computed(token: str) -> tuple[str, ...]:
    """Names of the outputs of the SDK's resource class."""
    cls = sdk_types.resource_type(token)
    return tuple(pulumi_types.resource_types(cls)) if cls and issubclass(cls, pulumi.CustomResource) else ()
