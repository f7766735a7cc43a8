"""Keys, certificates, logins, admission policies."""
