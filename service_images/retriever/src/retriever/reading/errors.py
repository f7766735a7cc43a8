"""Error for a file without readable text."""


class Unreadable(ValueError):
    """A file cannot be read. The client that uploaded it receives the message."""
