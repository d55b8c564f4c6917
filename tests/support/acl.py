"""The rights of each user in deploy/redis-acl.conf."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parents[2] / "deploy" / "redis-acl.conf"


def rules_of() -> dict[str, str]:
    """Return each user's rules as the file has them, less the switch and the password."""
    lines = [line.split(maxsplit=2) for line in FILE.read_text().splitlines()]
    users = [line for line in lines if line and line[0] == "user"]
    return {name: rules.removeprefix("on resetpass ") for _, name, rules in users}


RULES = rules_of()
