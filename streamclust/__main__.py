"""The start of ``streamclust`` and of ``python -m streamclust``."""

import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line; Ctrl-C during the imports ends it without a traceback."""
    try:
        from streamclust.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
