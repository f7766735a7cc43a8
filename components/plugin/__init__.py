"""The component library as a Pulumi plugin."""
