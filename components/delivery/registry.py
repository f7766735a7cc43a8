"""Checks the manifest that a loopback registry serves. cosign verifies the digest's signature, not the content."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request

from components.config.images import speaks_plain_http

_ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)


def altered(reference: str) -> str | None:
    """Reason why the manifest of `host/repository@sha256:...` does not match its digest; None if it matches.

    The manifest refers to its layers by digest, and the container runtime verifies these when it pulls the image.
    """
    name, _, digest = reference.partition("@")
    host, _, repository = name.partition("/")
    scheme = "http" if speaks_plain_http(host) else "https"
    request = urllib.request.Request(
        f"{scheme}://{host}/v2/{repository}/manifests/{digest}", headers={"Accept": _ACCEPT}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = f"sha256:{hashlib.sha256(answer.read()).hexdigest()}"
    except urllib.error.HTTPError as error:
        return f"the registry answers the request for its manifest with status {error.code}"
    except OSError as error:
        return f"the registry {host} is unreachable: {error}"
    return None if found == digest else f"its manifest has the digest {found}"
