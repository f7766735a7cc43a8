"""The local Kubernetes node: processes, keys, network and the cluster's own add-ons."""
