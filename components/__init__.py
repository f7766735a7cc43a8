"""The CogniForge platform as Pulumi components: import one, or compose all with `Platform`."""
