"""A service of one's own: it asks the Router, and keeps question and answer as a note of the caller's tenant."""
