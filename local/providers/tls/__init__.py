"""Stand-in for the tls provider."""
