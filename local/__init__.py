"""The embedded environment: tools, node, provider stand-ins and images on this machine."""
