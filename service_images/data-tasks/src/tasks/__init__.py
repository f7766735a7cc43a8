"""Tasks of the data layer: bring a server's content to what the intents say, then prove that it works."""
