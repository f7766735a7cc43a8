"""Prompt: versions that never change, labels that move, rendered in a sandbox."""
