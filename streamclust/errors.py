"""Every error that streamclust raises on purpose.

One root class, so that a caller can catch all of them; every message says what was expected,
what was got, and which knob to turn. The command line maps each class to an exit code.
"""

from __future__ import annotations

from streamclust.text import printable


class StreamclustError(Exception):
    """Root of all errors below; its text is one clear line for a person.

    Names in it that a producer chose can't do anything to a terminal: see `streamclust.text`.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def _printable_lines(error: Exception) -> str:
    return "\n".join(map(printable, Exception.__str__(error).split("\n")))


class ConfigError(StreamclustError):
    """Raised when the configuration has an unknown key or a bad value; one line for each."""

    def __str__(self) -> str:
        return _printable_lines(self)


class DataError(StreamclustError, ValueError):
    """Raised when points or parameters have the wrong shape, dtype or values."""


class UnlearnableError(DataError):
    """Raised when good points can't be learned by a model; the state before them stays usable."""


class TooFewPointsError(DataError):
    """Raised when there are fewer distinct points than components."""


class FormatError(StreamclustError):
    """Raised when stored bytes (a model, a state, a file) can't be read as what they should be."""


class DamagedVersionError(FormatError):
    """Raised when a published version can't be read; those after it may.

    Parameters
    ----------
    reason : str
    version : int
        Its number, by the ID of its entry.
    """

    def __init__(self, reason: str, version: int) -> None:
        super().__init__(reason)
        self.version = version


class ServerError(StreamclustError):
    """Raised when the server refuses or can't be used: password, rights, wrong type of key."""


class NotPermittedError(ServerError):
    """Raised when the user of the server lacks a right."""


class ServerUnreachableError(ServerError):
    """Raised when no connection to the server can be made."""


class UnknownModelError(StreamclustError, LookupError):
    """Raised when a model, or a version of it, isn't on the server."""


class LeaseLostError(StreamclustError):
    """Raised when another worker has taken the model over, so that nothing may be written."""


class ModelsFailedError(StreamclustError):
    """Raised when a worker has ended while models were failed; has a line for each of them.

    Parameters
    ----------
    failures : dict of str to Exception
        The reasons, by the model's name.
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
    """Return words for an error that nobody foresaw, which may hold bytes of any size."""
    return f"unexpected error: {repr(error)[:300]}"


class MissingExtraError(StreamclustError, ImportError):
    """Raised when an optional library is needed and isn't installed."""


class StoppedError(StreamclustError):
    """Raised when the user stopped a computation that has no result yet."""


class BusyError(StreamclustError):
    """Raised when another process does the same already, or doesn't answer in time."""
