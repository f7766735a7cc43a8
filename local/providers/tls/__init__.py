"""The tls provider."""
