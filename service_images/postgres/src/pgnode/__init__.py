"""What a PostgreSQL pod does beside serving: it makes or restores its data, pools, backs up, provisions, checks."""
