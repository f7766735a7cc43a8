"""Portal: pages on which a person sees and uses what their key allows."""
