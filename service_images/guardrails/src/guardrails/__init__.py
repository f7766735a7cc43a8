"""Guardrails: detects personal data, secrets, prompt injection, forbidden topics and invalid JSON in texts."""
