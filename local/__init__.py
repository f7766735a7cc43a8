"""The local environment: tools, Kubernetes node, provider stand-ins and images on this machine."""
