"""Health checks, monitoring, alerts and dashboards."""
