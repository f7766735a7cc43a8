"""The AI Router: one OpenAI-compatible API for all models."""
