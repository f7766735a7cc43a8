"""Programs of a PostgreSQL pod: initialization, restore, connection pool, backups, provisioning, checks."""
