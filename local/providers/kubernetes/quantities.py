"""Fields that contain quantities, which the API server normalizes ("1000m" becomes "1").

All other texts, such as a ConfigMap's values or command line arguments, are compared exactly: "1.10" is not "1.1".
Source: the fields of type resource.Quantity in the OpenAPI description of Kubernetes v1.34.
"""

from __future__ import annotations

import re
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from local.providers.wire import Path

_KEY = r"[^/]+"
_FIELDS = re.compile(
    "|".join(
        (
            # Containers, pods and volume claims in any template.
            rf"(.+/)?spec(/{_KEY})*/resources/(requests|limits)/{_KEY}",
            rf"(.+/)?spec/overhead/{_KEY}",
            r"(.+/)?volumes/\d+/emptyDir/sizeLimit",
            r"(.+/)?resourceFieldRef/divisor",
            rf"overhead/podFixed/{_KEY}",
            rf"spec/(capacity|hard)/{_KEY}",
            rf"spec/limits/\d+/(max|min|default|defaultRequest|maxLimitRequestRatio)/{_KEY}",
            r"spec/metrics/\d+/\w+/target/(averageValue|value)",
            r"capacity|maximumVolumeSize",
        )
    )
)
_BUILT_IN = re.compile(r"v\d\w*|(apps|autoscaling|batch|policy|[\w.]+\.k8s\.io)/v\d\w*")
"""API versions of Kubernetes itself. Texts of custom resources are not normalized."""


def is_quantity(api_version: str, path: Path) -> bool:
    """Whether the field at `path` of an object contains a quantity."""
    # A name with a slash, such as nvidia.com/gpu, is one step of the path.
    steps = "/".join(str(step).replace("/", "~") for step in path)
    return bool(_BUILT_IN.fullmatch(api_version)) and bool(_FIELDS.fullmatch(steps))


def same(wanted: Any, actual: Any) -> bool:
    """Whether two texts are the same quantity."""
    try:
        return parse_quantity(wanted) == parse_quantity(actual)
    except (ValueError, TypeError):
        return False
