"""The node itself: started, killed, stopped, removed. Needs root; `make test` runs these around all others."""
