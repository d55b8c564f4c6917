"""The dashboard of `streamclust dashboard` and of `streamclust worker --ui`."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from streamclust.cli._options import warn
from streamclust.cli._server import has_stored_data, print_if_slow, server_address
from streamclust.errors import ConfigError, MissingExtraError
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from streamclust.config import Settings
    from streamclust.dashboard.serve import Dashboard
    from streamclust.store.server.connect import Server

TOKEN_VARIABLE = "STREAMCLUST_DASHBOARD_TOKEN"  # noqa: S105
"""Environment variable with the token for actions."""

PORT = 8642
"""Default port."""

_SHORTEST_TOKEN = 16
_TOKEN_BYTES = 1 << 12
_LARGEST_PORT = 65_535


@contextmanager
def opened_dashboard(
    settings: Settings,
    host: str,
    port: int,
    hosts: Sequence[str] = (),
    token: str | None = None,
    server: Server | None = None,
    log: FilteringBoundLogger | None = None,
) -> Iterator[Dashboard]:
    """Serve the dashboard during the block.

    Parameters
    ----------
    settings : Settings
    host, port : str, int
    hosts : sequence of str
        Further names of hosts that requests may have.
    token : str or None
        Permits actions.
    server : Server, optional
        Default: the server of the settings, also if it starts later.
    log : structlog logger, optional
        Default: a log of warnings and errors.

    Raises
    ------
    MissingExtraError
        If the libraries aren't installed.
    ConfigError
        If the address can't be used.
    ServerError
        If the server refuses the login.
    """
    _check_libraries()
    from streamclust.dashboard.security import is_loopback
    from streamclust.dashboard.serve import Dashboard, Listen
    from streamclust.runtime.log import command_log
    from streamclust.store.server.connect import Address, find_server
    from streamclust.store.server.url import server_label

    if not is_loopback(host):
        _warn_of_exposure(host, log)
    address = Address(**server_address(settings))
    label = server_label(settings.redis.url, settings.redis.data_dir)
    listen = Listen(host, port, hosts, token)
    with ExitStack() as own:

        def open_server() -> Server:
            if server is not None:
                return server
            return own.enter_context(find_server(address, start=has_stored_data(settings)))

        board = Dashboard(settings, open_server, label, listen, log or command_log())
        with closing(board) as found:
            if server is None:
                with print_if_slow(settings):
                    found.check()
            with found:
                yield found


def check_dashboard(host: str, port: int) -> None:
    """Raise the error of `opened_dashboard` early, before a server is started for it.

    Raises
    ------
    MissingExtraError
        If the libraries aren't installed.
    ConfigError
        If the address can't be used.
    """
    _check_libraries()
    from streamclust.dashboard.serve import bound

    bound(host, port).close()


def _check_libraries() -> None:
    try:
        import streamclust.dashboard.serve  # noqa: F401
    except ImportError as error:
        library = str(error.name).partition(".")[0]
        raise MissingExtraError(
            f"the dashboard needs {library}: pip install starlette uvicorn"
        ) from None


def _warn_of_exposure(host: str, log: FilteringBoundLogger | None) -> None:
    text = (
        f"the dashboard listens on {printable(host)}, without TLS: everyone who can reach this "
        "address sees the models. Put a proxy with TLS before it; see docs/dashboard.md"
    )
    if log is None:
        warn(text)
    else:
        log.warning("dashboard_exposed", reason=text)


def read_token(file: Path | None) -> tuple[str, bool]:
    """Return the token of a file or of the environment, or a new one; and whether it is new.

    Raises
    ------
    ConfigError
        If the token is too short, or the file can't be read.
    """
    text, name = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
    if file is not None:
        name = f"--token-file {file}"
        try:
            with file.open("rb") as opened:
                text = opened.read(_TOKEN_BYTES).decode("ascii").strip()
        except OSError as error:
            raise ConfigError(f"{name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{name}: expected a token of ASCII characters") from None
    if text is None:
        return secrets.token_urlsafe(32), True
    if len(text) < _SHORTEST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(
            f"{name}: expected a token of at least {_SHORTEST_TOKEN} ASCII characters without "
            "spaces; `python3 -c 'import secrets; print(secrets.token_urlsafe())'` makes one"
        )
    return text, False


def read_place(text: str) -> tuple[str, int]:
    """Return the address and the port of ``HOST:PORT``, ``HOST`` or ``PORT``.

    Raises
    ------
    ConfigError
        If the text is none of these.
    """
    found = re.fullmatch(r"(?:(\[[^\]]+\]|[^:\[\]]+):)?(\d{1,5})|(\[[^\]]+\]|[^:\[\]]+)", text)
    port = PORT if found is None or found[2] is None else int(found[2])
    if found is None or port > _LARGEST_PORT:
        raise ConfigError(f"--ui is {text!r}; expected HOST:PORT, such as 127.0.0.1:{PORT}")
    return (found[1] or found[3] or "127.0.0.1").strip("[]"), port
