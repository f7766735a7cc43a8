"""User: tenants, teams, users, API keys, logins, and access rights to objects."""
