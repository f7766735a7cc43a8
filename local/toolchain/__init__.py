"""Pins, finds and builds the Go programs."""
