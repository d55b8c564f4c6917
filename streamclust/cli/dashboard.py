"""``streamclust dashboard``."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import server_options, settings_loader
from streamclust.cli._render import say
from streamclust.errors import ConfigError
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.config import Settings
    from streamclust.dashboard.serve import Dashboard


@click.command()
@server_options
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on. 127.0.0.1 serves this machine only; 0.0.0.0 serves all machines "
    "that can reach this one.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8642,
    show_default=True,
    metavar="PORT",
    help="Port to listen on; 0 chooses a free port.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.option(
    "--allow-actions",
    is_flag=True,
    help="Permit refit, rollback, pause and requeue to those who have the token. The token is in "
    "the printed URL, or is the one of --token-file or STREAMCLUST_DASHBOARD_TOKEN.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that holds only the token for actions.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Accept requests that name this host, such as the name that a proxy sends. Repeatable.  "
    "[default: only localhost if --host is a loopback address, else all names]",
)
def dashboard(
    settings: Settings,
    host: str,
    port: int,
    open_page: bool,
    allow_actions: bool,
    token_file: Path | None,
    hosts: tuple[str, ...],
) -> None:
    """Show all models and how they move on a page in the browser, until Ctrl-C.

    The page only reads, unless --allow-actions permits more. It needs no internet. The command
    reads the server once for all visitors, and not at all while no page is open. The same data are
    at /api/ as JSON and server-sent events; /openapi.json describes them.

    The server listens on this machine only. For other machines, put a proxy with TLS before it.
    SIGHUP reads the settings again, as for a worker.

    \b
    Examples:
      streamclust dashboard --open
      streamclust dashboard --redis-url redis://db:6379/0 --port 0
      streamclust dashboard --allow-actions --token-file token.txt
    """
    from streamclust.cli._dashboard import opened_dashboard, read_token

    if token_file is not None and not allow_actions:
        raise click.UsageError("--token-file needs --allow-actions")
    token, is_new = read_token(token_file) if allow_actions else (None, False)
    load = settings_loader()
    with opened_dashboard(settings, host, port, hosts, token) as found:

        def reload() -> None:
            try:
                found.use(load())
            except ConfigError as error:
                say(f"error: {error}; the settings stay as they are")

        _serve(found, f"#token={token}" if is_new else "", open_page, reload)


def _serve(found: Dashboard, fragment: str, open_page: bool, reload: Callable[[], None]) -> None:
    """Print the address, and wait for Ctrl-C or SIGTERM; SIGHUP calls `reload`."""
    from streamclust.runtime.signals import reload_on_signal, stop_on_signals

    stop = threading.Event()
    with stop_on_signals(stop), reload_on_signal(stop, reload):
        say(printable(f"reading {found.server_label}"))
        say(f"{found.url}{fragment}")
        with _opened_page(f"{found.url}{fragment}") if open_page else nullcontext():
            while not stop.wait(0.2):  # a signal to another thread doesn't end the wait
                pass


@contextmanager
def _opened_page(url: str) -> Iterator[None]:
    """Open an address in the browser.

    An address with a token goes through a file that only this user can read, because the list of
    processes shows the arguments of the browser.
    """
    import webbrowser

    if "#" not in url:
        webbrowser.open(url)
        yield
        return
    with NamedTemporaryFile("w", suffix=".html") as file:
        file.write(f'<meta http-equiv="refresh" content="0; url={url}">')
        file.flush()
        webbrowser.open(Path(file.name).as_uri())
        yield
