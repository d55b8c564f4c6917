"""Every error that streamclust raises on purpose.

All classes have one root, so that a caller can catch all of them. Each message has the actual
value, the expected value, and what to do. The command line maps each class to an exit code.
"""

from __future__ import annotations

from streamclust.text import printable


class StreamclustError(Exception):
    """Root of all errors of streamclust; the text is one line.

    Control characters in names that come from a producer are escaped; see `streamclust.text`.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def _printable_lines(error: Exception) -> str:
    return "\n".join(map(printable, Exception.__str__(error).split("\n")))


class ConfigError(StreamclustError):
    """Raised when the configuration has an unknown key or a bad value; one line per problem."""

    def __str__(self) -> str:
        return _printable_lines(self)


class DataError(StreamclustError, ValueError):
    """Raised when points or parameters have the wrong shape, dtype or values."""


class UnlearnableError(DataError):
    """Raised when valid points can't be learned; the state before these points stays usable."""


class TooFewPointsError(DataError):
    """Raised when there are fewer distinct points than components."""


class FormatError(StreamclustError):
    """Raised when stored bytes (a model, a state, a file) don't have the expected format."""


class DamagedVersionError(FormatError):
    """Raised when a published version can't be read; later versions may be readable.

    Parameters
    ----------
    reason : str
    version : int
        Number of the version, from the ID of its entry.
    """

    def __init__(self, reason: str, version: int) -> None:
        super().__init__(reason)
        self.version = version


class ServerError(StreamclustError):
    """Raised when the server refuses a command: password, rights, wrong type of key."""


class NotPermittedError(ServerError):
    """Raised when the server's user lacks a permission."""


class ServerUnreachableError(ServerError):
    """Raised when no connection to the server can be made."""


class ClientClosedError(StreamclustError, RuntimeError):
    """Raised when a Python client is used after it was closed, or before it is open."""


class UnknownModelError(StreamclustError, LookupError):
    """Raised when a model, or a version of it, isn't on the server.

    Attributes
    ----------
    model : str
        Name of the model; empty if it isn't known.
    """

    def __init__(self, text: str, model: str = "") -> None:
        super().__init__(text)
        self.model = model


class UnknownStreamError(StreamclustError, LookupError):
    """Raised when a stream isn't on the server."""


class LeaseLostError(StreamclustError):
    """Raised when another worker has the lease of the model; this worker must not write it."""


class ModelsFailedError(StreamclustError):
    """Raised when a worker has ended with failed models; the text has one line per model.

    Parameters
    ----------
    failures : dict of str to Exception
        Name of the model -> the reason.
    """

    def __init__(self, failures: dict[str, Exception]) -> None:
        self.failures = dict(sorted(failures.items()))
        super().__init__("\n".join(map(_line, self.failures, self.failures.values())))

    def __str__(self) -> str:
        return _printable_lines(self)


def _line(name: str, error: Exception) -> str:
    if isinstance(error, StreamclustError):
        return f"model {name!r} failed: {error}"
    return f"model {name!r} failed: {unexpected(error)}; the log has more"


def unexpected(error: Exception) -> str:
    """Return a text of at most 318 characters for an unexpected error."""
    return f"unexpected error: {repr(error)[:300]}"


class MissingExtraError(StreamclustError, ImportError):
    """Raised when an optional library that is needed isn't installed."""


class EngineError(StreamclustError):
    """Raised when an engine can't compute.

    It is unreachable, its version is too old, or its kernels give other bits.
    """


class StoppedError(StreamclustError):
    """Raised when the user stopped a computation before it had a result."""


class BusyError(StreamclustError):
    """Raised when another process does the same work, or doesn't answer in time."""
