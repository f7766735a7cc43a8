"""User: tenants, teams, users, API keys, logins, and who may do what to which object."""
