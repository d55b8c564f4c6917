"""The start of ``streamclust`` and of ``python -m streamclust``."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line; Ctrl-C ends it without a traceback, also during the imports.

    The handler also sets a flag, because a library may turn a KeyboardInterrupt during its import
    into another error.
    """
    interrupted = False

    def interrupt(_number: int, _frame: "FrameType | None") -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    try:
        import signal

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)
        from streamclust.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception:
        if interrupted:
            sys.exit(EXIT_INTERRUPTED)
        raise


if __name__ == "__main__":
    main()
