"""What stands in the way of a release."""


class ReleaseError(Exception):
    """A check failed; the message says what is wrong and what to do."""
