"""Stand-in for the kubernetes provider: server-side apply of typed resources to any API server."""

from __future__ import annotations

import copy
import secrets
from typing import Any

from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2

from components.data.holders import held_by
from local.providers import sdk_types, wire
from local.providers.kubernetes import diff, objects, ownership, readiness, releases
from local.providers.kubernetes.cluster import ApiError, Cluster, NotFound, Object, Unreachable
from local.providers.kubernetes.waiting import Place, Waiter
from local.providers.server import Provider, ProviderError
from local.providers.wire import UNKNOWN, UNKNOWN_TEXT, Secret

MAX_NAME = 63
_AUTONAMED = "pulumi.com/autonamed"
_UNSUPPORTED = {
    "helm.sh": "Helm charts need the real kubernetes provider plugin and network access to the chart",
    "kustomize": "Kustomize needs the real kubernetes provider plugin",
    "yaml": "YAML components need the real kubernetes provider plugin; use typed resources",
}


class Kubernetes(Provider):
    """Provider for the resource tokens of pulumi-kubernetes."""

    package = "kubernetes"
    sdk = "pulumi-kubernetes"

    def __init__(self) -> None:
        super().__init__()
        self._cluster = Cluster(None, None, None)
        self._cluster_unknown = False
        self._state = ""
        self._recorded: dict[str, set[str]] = {}
        """Names of the objects in the state, by URN."""
        self._made: dict[str, str] = {}
        """IDs of the objects that this engine has created, by URN."""

    def Configure(self, request: Any, context: Any) -> provider_pb2.ConfigureResponse:
        """Store the cluster's connection. An unknown kubeconfig means that the cluster does not exist yet."""
        settings = wire.decode_struct(request.args)
        self._cluster_unknown = settings.get("kubeconfig") is UNKNOWN
        plain = {k: v for k, v in wire.reveal(settings).items() if isinstance(v, str) and v}
        self._cluster = Cluster(plain.get("kubeconfig"), plain.get("context"), plain.get("namespace"))
        self._state = "" if request.id == UNKNOWN_TEXT else request.id
        self._recorded, self._made = {}, {}
        return super().Configure(request, context)

    def Invoke(self, request: Any, context: Any) -> provider_pb2.InvokeResponse:
        """Refuse functions, which render charts and YAML."""
        raise ProviderError(f"{request.tok} needs the real kubernetes provider plugin")

    # --- check ---------------------------------------------------------------------------------

    def Check(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        """Validate the inputs against the SDK's types, and add names and labels."""
        token = _token(request.urn)
        olds, news = wire.decode_struct(request.olds), wire.decode_struct(request.news)
        inputs = copy.deepcopy(news)
        failures: list[tuple[str, str]] = []
        group = token.split(":")[1].split("/")[0]
        inputs.setdefault("metadata", {})
        cls = sdk_types.arguments_type(token)
        if group not in _UNSUPPORTED and cls is not None:
            failures += sdk_types.problems(inputs, cls)
        failures += objects.annotation_problems(inputs["metadata"])
        inputs["metadata"] = self._named(request, olds, inputs)
        if not failures and group not in _UNSUPPORTED and self._worth_a_dry_run(olds, inputs):
            failures += self._server_problems(inputs)
        return provider_pb2.CheckResponse(
            inputs=wire.encode_struct(inputs),
            failures=[provider_pb2.CheckFailure(property=path, reason=reason) for path, reason in failures],
        )

    @staticmethod
    def _worth_a_dry_run(olds: dict[str, Any], news: dict[str, Any]) -> bool:
        """Whether a dry run is useful: not for unchanged inputs, and not for a replacement of the object."""
        plain = wire.reveal(olds)
        changes = list(diff.compare(olds, news))
        return bool(changes) and not (olds and any(diff.forbidden(c, str(news.get("kind")), plain) for c in changes))

    def _named(self, request: Any, olds: dict[str, Any], inputs: dict[str, Any]) -> Any:
        """Add a generated name if the inputs have none. It stays the same in later updates."""
        metadata = inputs["metadata"]
        old = olds.get("metadata") or {}
        if old.get("name"):
            self._recorded.setdefault(request.urn, set()).add(old["name"])
        if metadata is UNKNOWN or isinstance(metadata, Secret) or metadata.get("name"):
            return metadata
        annotations = dict(metadata.get("annotations") or {})
        if (old.get("annotations") or {}).get(_AUTONAMED) == "true" and old.get("name"):
            name = old["name"]
        elif found := self._unfinished(request.urn, inputs):
            name = found
        elif request.HasField("autonaming") and request.autonaming.proposed_name:
            name = request.autonaming.proposed_name
        else:
            suffix = request.randomSeed[:4].hex() if request.randomSeed else secrets.token_hex(4)
            prefix = metadata.get("generateName") or f"{request.urn.split('::')[-1].lower()}-"
            name = f"{prefix[: MAX_NAME - 8]}{suffix}"
        return {**metadata, "name": name, "annotations": {**annotations, _AUTONAMED: "true"}}

    def _unfinished(self, urn: str, inputs: dict[str, Any]) -> str | None:
        """Name of this object if an interrupted update has created it, or None."""
        version, kind = inputs.get("apiVersion"), inputs.get("kind")
        namespace = inputs["metadata"].get("namespace")
        known = isinstance(version, str) and isinstance(kind, str) and not wire.has_unknown(namespace)
        if not known or not self._state or self._cluster_unknown:
            return None
        try:
            selector = f"{ownership.STATE}={self._state}"
            found = self._cluster.list(version, kind, wire.reveal(namespace), labelSelector=selector)
        except (ApiError, Unreachable):
            return None  # its kind, its namespace or the cluster does not exist yet
        owner = ownership.Owner(urn, self._state)
        return ownership.unfinished(owner, found, self._recorded.get(urn, set()))

    def _server_problems(self, inputs: dict[str, Any]) -> list[tuple[str, str]]:
        """(path, problem) that the API server reports in a dry run."""
        if self._cluster_unknown or wire.has_unknown(inputs):
            return []
        manifest = objects.manifest_of(inputs)
        if not manifest["metadata"].get("name"):
            return []
        try:
            self._cluster.apply(manifest, dry_run=True)
        except (NotFound, Unreachable):
            return []  # its namespace, its CRD or the cluster is created in the same update
        except ApiError as error:
            if error.status in {400, 422} and not error.immutable:
                fields = [(c.get("field", ""), c.get("message", "")) for c in error.causes]
                return fields or [("", error.message)]
        return []

    # --- diff ----------------------------------------------------------------------------------

    def Diff(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        """Compare inputs. Changes that Kubernetes forbids require replacement."""
        old_inputs = wire.decode_struct(request.old_inputs)
        news = wire.decode_struct(request.news)
        kind = news.get("kind", "")
        plain_old = wire.reveal(old_inputs)
        changes = [c for c in diff.compare(old_inputs, news) if c.text not in set(request.ignoreChanges)]
        replaces = {c.text for c in changes if diff.forbidden(c, kind, plain_old)}
        if changes and not replaces:
            replaces = self._server_refusals(news, changes)
        detailed: dict[str, provider_pb2.PropertyDiff] = {}
        for change in changes:
            name = change.change.name + ("_REPLACE" if change.text in replaces else "")
            value = getattr(provider_pb2.PropertyDiff, name)
            detailed[change.text] = provider_pb2.PropertyDiff(kind=value, inputDiff=True)
        response = provider_pb2.DiffResponse
        same_name = (plain_old.get("metadata") or {}).get("name") == (wire.reveal(news).get("metadata") or {}).get(
            "name"
        )
        return response(
            changes=response.DIFF_SOME if changes else response.DIFF_NONE,
            replaces=sorted(replaces),
            diffs=sorted({str(c.path[0]) for c in changes}),
            detailedDiff=detailed,
            hasDetailedDiff=True,
            deleteBeforeReplace=bool(replaces) and same_name,
        )

    def _server_refusals(self, news: dict[str, Any], changes: list[diff.FieldChange]) -> set[str]:
        """Changes that only the API server can refuse, by webhooks or CRD rules."""
        if self._cluster_unknown or wire.has_unknown(news):
            return set()
        try:
            self._cluster.apply(objects.manifest_of(news), dry_run=True)
        except ApiError as error:
            if error.immutable:
                named = {str(c.get("field", "")) for c in error.causes}
                hit = {
                    c.text for c in changes if any(f and (c.text.startswith(f) or f.startswith(c.text)) for f in named)
                }
                return hit or {c.text for c in changes}
        except Unreachable:
            pass
        return set()

    # --- create, update, read, delete ------------------------------------------------------------

    def Create(self, request: Any, context: Any) -> provider_pb2.CreateResponse:
        """Create the object and wait until it is ready."""
        inputs = wire.decode_struct(request.properties)
        if not request.preview and releases.recorded(request.urn):
            self.log.warning(request.urn, "simulated AWS: the release is recorded, not installed")
            properties = wire.encode_struct(releases.outputs(inputs))
            return provider_pb2.CreateResponse(id=releases.identifier(wire.reveal(inputs)), properties=properties)
        self._refuse_unsupported(request.urn, request.preview)
        if request.preview:
            outputs = self._preview(inputs)
            return provider_pb2.CreateResponse(id="", properties=wire.encode_struct(outputs))
        manifest = objects.manifest_of(inputs)
        try:
            live = self._make(request, manifest)
        except ApiError as error:
            raise ProviderError(self._explain("create", manifest, error)) from None
        identifier = self._made[request.urn] = objects.identifier_of(live)
        live = self._waiter(request).ready(identifier, live, inputs)
        return provider_pb2.CreateResponse(
            id=identifier, properties=wire.encode_struct(objects.outputs_of(live, inputs))
        )

    def _make(self, request: Any, manifest: Object) -> Object:
        """Create the object, or adopt the one that an interrupted update has created."""
        owner = ownership.Owner(request.urn, self._state)
        existing = self._existing(request, manifest)
        if existing is not None and not objects.adopts(manifest) and not owner.owns(existing):
            raise ProviderError(self._taken(manifest, ownership.of(existing), owner))
        self._refuse_interrupted()
        try:
            # Applied instead of created: a POST would add a second field manager, and fields that the program drops
            # later would stay, since that manager would still own them.
            return self._cluster.apply(owner.mark(manifest))
        except ApiError as error:
            if existing is None or not error.immutable or not owner.owns(existing) or held_by(_token(request.urn)):
                raise
        # Immutable fields have changed since the interrupted update. The object holds no data, so it is replaced.
        Place.of(manifest).delete(self._cluster, "Foreground")
        self._waiter(request).gone(Place.of(manifest))
        return self._cluster.apply(owner.mark(manifest))

    def _existing(self, request: Any, manifest: Object) -> Object | None:
        """The existing object of that name, or None. Waits if it is being deleted."""
        try:
            found = Place.of(manifest).get(self._cluster)
        except NotFound:
            return None
        if not found["metadata"].get("deletionTimestamp"):
            return found
        self._waiter(request).gone(Place.of(manifest))
        return self._existing(request, manifest)

    def _waiter(self, request: Any) -> Waiter:
        return Waiter(self._cluster, self.log, self.cancelled, request.urn, request.timeout)

    def _refuse_interrupted(self) -> None:
        if self.cancelled.is_set():
            raise ProviderError("interrupted before anything was changed")

    def _refuse_unsupported(self, urn: str, preview: bool) -> None:
        group = _token(urn).split(":")[1].split("/")[0]
        if group in _UNSUPPORTED and not preview:
            raise ProviderError(_UNSUPPORTED[group])

    def _preview(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Outputs that are known before the object exists: its inputs."""
        if "kind" not in inputs:  # a Helm release is not a Kubernetes object
            return {**inputs, "status": UNKNOWN}
        outputs = {**inputs, "status": UNKNOWN}
        metadata = inputs.get("metadata")
        if isinstance(metadata, dict):
            outputs["metadata"] = {**metadata, "uid": UNKNOWN, "resourceVersion": UNKNOWN}
            namespaced_default = self._cluster.default_namespace
            if "namespace" not in metadata and not self._cluster_unknown:
                try:
                    if self._cluster.namespaced(inputs["apiVersion"], inputs["kind"]):
                        outputs["metadata"]["namespace"] = namespaced_default
                except (ApiError, Unreachable, TypeError):
                    outputs["metadata"]["namespace"] = UNKNOWN
        return objects.conceal(outputs, inputs)

    def Update(self, request: Any, context: Any) -> provider_pb2.UpdateResponse:
        """Apply the new definition and wait until it is ready."""
        inputs = wire.decode_struct(request.news)
        if request.preview:
            olds = wire.decode_struct(request.olds)
            outputs = {**self._preview(inputs), "status": olds.get("status", UNKNOWN)}
            return provider_pb2.UpdateResponse(properties=wire.encode_struct(outputs))
        if releases.recorded(request.urn):
            return provider_pb2.UpdateResponse(properties=wire.encode_struct(releases.outputs(inputs)))
        manifest = objects.manifest_of(inputs)
        self._refuse_interrupted()
        try:
            live = self._cluster.apply(ownership.Owner(request.urn, self._state).mark(manifest))
        except ApiError as error:
            raise ProviderError(self._explain("update", manifest, error)) from None
        live = self._waiter(request).ready(request.id, live, inputs)
        return provider_pb2.UpdateResponse(properties=wire.encode_struct(objects.outputs_of(live, inputs)))

    def Read(self, request: Any, context: Any) -> provider_pb2.ReadResponse:
        """The live object, for refresh and import."""
        if releases.recorded(request.urn):
            return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)
        inputs = wire.decode_struct(request.inputs)
        state = wire.decode_struct(request.properties)
        known = wire.reveal(inputs or state)
        place = self._place(request, known)
        try:
            live = place.get(self._cluster)
            if live["metadata"].get("deletionTimestamp"):  # an interrupted destroy: the object counts as deleted
                self._waiter(request).gone(place)
                return provider_pb2.ReadResponse()
        except NotFound:
            return provider_pb2.ReadResponse()  # without an ID, the object counts as deleted
        except ApiError as error:
            raise ProviderError(f"reading {place.kind} {request.id}: {error.message}") from None
        named = objects.from_server(live)
        adopted = objects.live_inputs(named, inputs) if inputs else objects.importable(named)
        return provider_pb2.ReadResponse(
            id=objects.identifier_of(live),
            properties=wire.encode_struct(objects.outputs_of(live, inputs)),
            inputs=wire.encode_struct(objects.conceal(adopted, inputs)),
        )

    @staticmethod
    def _place(request: Any, known: Object) -> Place:
        api_version, kind = objects.kind_of(request.urn, known)
        namespace, _, name = request.id.rpartition("/")
        return Place(api_version, kind, namespace or None, name)

    def Delete(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Delete the object and wait until it is deleted."""
        if releases.recorded(request.urn):
            return empty_pb2.Empty()
        state = wire.reveal(wire.decode_struct(request.properties))
        place = self._place(request, state)
        if self._made.get(request.urn) == request.id:
            return empty_pb2.Empty()  # its replacement has adopted the object
        annotations = (state.get("metadata") or {}).get("annotations") or {}
        propagation = {"orphan": "Orphan", "background": "Background"}.get(
            annotations.get(readiness.DELETION_PROPAGATION, "foreground").lower(), "Foreground"
        )
        self._refuse_interrupted()
        try:
            place.delete(self._cluster, propagation)
        except NotFound:
            return empty_pb2.Empty()
        except ApiError as error:
            raise ProviderError(f"deleting {place.kind} {request.id}: {error.message}") from None
        if annotations.get(readiness.SKIP_AWAIT) != "true":
            self._waiter(request).gone(place)
        return empty_pb2.Empty()

    @staticmethod
    def _taken(manifest: Object, holder: ownership.Owner | None, owner: ownership.Owner) -> str:
        if holder is None:
            whose = "is not managed by this stack"
        elif holder.state == owner.state:
            whose = f"belongs to another resource of this stack, {holder.urn}"
        else:
            whose = f"belongs to {holder.urn} of another state"
        return (
            f"{objects.label(manifest)} exists already and {whose}. Import it "
            f'(`pulumi import`), or adopt it with the annotation pulumi.com/patchForce: "true"'
        )

    @staticmethod
    def _explain(verb: str, manifest: Object, error: ApiError) -> str:
        return f"cannot {verb} {objects.label(manifest)}: {error.message}"


def _token(urn: str) -> str:
    return urn.split("::")[2].split("$")[-1]
