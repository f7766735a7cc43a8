"""The cluster that the platform runs on: AWS foundation, connection, namespace, GPU pools."""
