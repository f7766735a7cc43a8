"""Stand-in for the aws provider: previews anywhere, and a simulated account for tests."""
