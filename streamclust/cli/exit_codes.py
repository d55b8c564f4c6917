"""The exit codes of every command."""

from __future__ import annotations

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_SERVER = 3
EXIT_INTERRUPTED = 130

EXIT_CODES = {
    EXIT_OK: "Success.",
    EXIT_ERROR: "Error: bad data, an unknown model or stream, a failed check, no memory or no disk "
    "space.",
    EXIT_USAGE: "Wrong arguments or settings.",
    EXIT_SERVER: "Redis or a required engine can't be reached, or refuses the command.",
    EXIT_INTERRUPTED: "Stopped by Ctrl-C.",
}
"""What each exit code means, for `streamclust --help`."""
