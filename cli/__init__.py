"""`forge`: the command line of the platform. Thin: it calls `local` and Pulumi."""
