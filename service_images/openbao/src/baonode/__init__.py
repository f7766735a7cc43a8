"""A node of the secret store: starts OpenBao, and keeps its content as declared."""
