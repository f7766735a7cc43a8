"""The local Kubernetes node: processes, certificates, network and cluster add-ons."""
