"""Prompt: stores prompts with immutable versions and movable labels, and renders them in a sandbox."""
