"""Lets ``python -m streamclust`` do what ``streamclust`` does."""

from streamclust.cli.main import main

if __name__ == "__main__":
    main()
