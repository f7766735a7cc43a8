"""Stand-in for the aws provider: previews without AWS, and a simulated account for tests."""
