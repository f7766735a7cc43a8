"""The gateway with its renderers, and the service mesh."""
