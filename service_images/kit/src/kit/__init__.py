"""Common library of all services: settings, logs, health, metrics, tracing, errors, and a server."""
