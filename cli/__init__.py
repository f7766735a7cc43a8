"""`forge`, the platform's command line interface. It is a thin layer over `components`, `local` and Pulumi."""
