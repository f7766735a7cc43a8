"""A mesh without sidecars, on EKS."""

from cogniforge.config.mesh import MeshMode
from cogniforge.mesh.istio import Istio

mesh = Istio("mesh", {"mode": MeshMode.AMBIENT, "highly_available": True, "platform": "eks"})
