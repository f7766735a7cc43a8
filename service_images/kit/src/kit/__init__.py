"""What every service shares: settings, logs, health, metrics, tracing, errors and a graceful server."""
