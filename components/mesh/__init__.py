"""How callers reach the services: the gateway and its renderers."""
