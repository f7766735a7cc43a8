"""Stand-ins for Pulumi plugins that are not available as packages."""
