"""Proves that an environment's rendered objects allow what the services' records ask for, and nothing else."""
