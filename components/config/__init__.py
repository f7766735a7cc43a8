"""The configuration of an environment: its sections by subject, how it is read, and how two differ."""
