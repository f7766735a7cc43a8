"""The AI services and the model servers."""
