"""Stand-ins for Pulumi plugins that cannot be had as packages."""
