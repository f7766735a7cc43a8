"""Other identity providers of a realm, and what their claims give.

Keycloak reads the metadata of a provider when the task asks it to. While a provider is away, what Keycloak has read
from the same address before stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.common import Problem
from tasks.keycloak import Json, Keycloak, Refused
from tasks.realm_differences import OWNED, Difference, changed, mappers, quoted, removal


def wanted(keycloak: Keycloak, base: str, asked: Mapping[str, Json]) -> Iterator[Difference]:
    """Providers and mappers that are missing or differ."""
    present = _present(keycloak, base)
    for name, one in asked.items():
        what, there, place = f"provider {name}", present.get(name), f"{base}/identity-provider/instances"
        path = f"{place}/{quoted(name)}"
        if there and there["config"].get(OWNED) != "true":
            raise Problem(f"the {what} exists and was not made by this task: rename or remove it")
        content = one["content"]
        config = {**content["config"], **_read(keycloak, base, name, one.get("metadata"), there), OWNED: "true"}
        body = {"alias": name, **content, "config": config}
        if there is None:
            yield Difference(what, "add", (), lambda body=body, place=place: keycloak.send("POST", place, body))
            continue
        if there["providerId"] != body["providerId"]:
            raise Problem(
                f"the {what} uses {there['providerId']} and is declared with {body['providerId']}: its people's links "
                "are of the other protocol, so give it another name"
            )
        if fields := changed(there, body):
            merged = {**there, **body, "config": {**there["config"], **config}}
            yield Difference(
                what, "change", fields, lambda path=path, merged=merged: keycloak.send("PUT", path, merged)
            )
        found: Any = keycloak.get(f"{path}/mappers") or []
        own = [{"name": each, "identityProviderAlias": name, **mapper} for each, mapper in one["mappers"].items()]
        yield from mappers(keycloak, f"{path}/mappers", what, found, own)


def unwanted(keycloak: Keycloak, base: str, asked: Mapping[str, Json]) -> Iterator[Difference]:
    """Providers that the task has made and nobody declares. Links of their people go with them, accounts stay."""
    for name, one in _present(keycloak, base).items():
        if name not in asked and one["config"].get(OWNED) == "true":
            yield removal(keycloak, f"provider {name}", f"{base}/identity-provider/instances/{quoted(name)}")


def _present(keycloak: Keycloak, base: str) -> dict[str, Json]:
    listed = keycloak.all(f"{base}/identity-provider/instances?briefRepresentation=false")
    return {one["alias"]: one for one in listed}


def _read(keycloak: Keycloak, base: str, name: str, metadata: Json | None, there: Json | None) -> dict[str, str]:
    """Addresses from the provider's metadata."""
    if metadata is None:
        return {}
    url, of, fields = metadata["url"], metadata["of"], metadata["read"]
    kind = "oidc" if of == "issuer" else "saml"
    try:
        found = keycloak.ask(f"{base}/identity-provider/import-config", {"providerId": kind, "fromUrl": url})
    except Refused as refused:
        known = there["config"] if there else {}
        if known.get(OWNED) == "true" and known.get(f"{OWNED}.metadata") == url and all(known.get(f) for f in fields):
            return {**{field: known[field] for field in fields}, f"{OWNED}.metadata": url}
        raise Problem(
            f"Keycloak cannot read the metadata of the provider {name} at {url}: check the address, and that its "
            f"certificate is of a public authority ({refused})"
        ) from None
    if absent := [field for field in fields if not found.get(field)]:
        raise Problem(f"the metadata of the provider {name} at {url} lacks {', '.join(absent)}")
    if kind == "oidc" and found.get("issuer") != metadata["issuer"]:
        raise Problem(
            f"the provider {name} calls itself {found.get('issuer')}, and is declared as {metadata['issuer']}: correct "
            "security.keycloak.providers"
        )
    return {**{field: found[field] for field in fields}, f"{OWNED}.metadata": url}
