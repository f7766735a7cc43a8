"""The secret store's node: starts OpenBao, and keeps its content as it is declared."""
