"""AI services and model servers."""
