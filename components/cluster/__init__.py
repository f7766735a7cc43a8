"""Where the platform runs: connection, namespace."""
