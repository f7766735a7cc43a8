"""Stand-in for the random provider."""
