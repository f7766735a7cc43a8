"""The Go programs: pinned, resolved, built."""
