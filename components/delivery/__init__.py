"""Images: which digest runs, and the proof that it is ours."""
