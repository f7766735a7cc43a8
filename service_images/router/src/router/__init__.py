"""The AI Router: one OpenAI API in front of every model."""
