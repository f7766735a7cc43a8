"""Setup tasks of the data layer: apply the desired state to a server, then check that it works."""
