"""`pulumi-resource-kubernetes`."""

from local.providers.kubernetes.provider import Kubernetes
from local.providers.server import serve

serve(Kubernetes())
