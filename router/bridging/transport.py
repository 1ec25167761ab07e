"""What may go wrong on the way to a provider, told apart by what a second try may do."""


class TransportError(Exception):
    """No answer came. The text says why, for histories of messages."""


class UnsentError(TransportError):
    """The provider surely did not look at the request: another try doubles nothing."""


class UnreachableError(UnsentError):
    """No connection could be made."""


class ForbiddenError(UnsentError):
    """The host of a device's address may not be connected to: it has no public address."""


class UnknownError(TransportError):
    """The request was written, and may have been taken: to be tried again with the same id."""


class SilentError(UnknownError):
    """No answer came within the time-out."""
