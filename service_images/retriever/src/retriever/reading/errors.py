"""Why a file has no text."""


class Unreadable(ValueError):
    """The message is shown to whoever uploaded the file."""
