"""A namespace whose pods are restricted and whose traffic is denied by default."""

from cogniforge.cluster.namespace import PlatformNamespace

namespace = PlatformNamespace("shop", {"namespace": "shop", "owner": "shop-team", "labels": {"team": "shop"}})
