"""What a loopback registry really holds for a reference; cosign checks the digest's signature, not the content."""

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
    """Why the manifest of `host/repository@sha256:...` is not the one that its digest names; None if it is.

    The manifest names its layers by digest in turn, and the container runtime checks those when it pulls.
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
        return f"the registry answers {error.code} for its manifest"
    except OSError as error:
        return f"the registry {host} does not answer: {error}"
    return None if found == digest else f"its manifest has the digest {found}"
