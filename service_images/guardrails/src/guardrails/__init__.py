"""Guardrails: personal data, secrets, injected prompts, topics and shapes in what users and models write."""
