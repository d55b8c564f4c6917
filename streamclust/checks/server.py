"""Checks of the server itself: version, role, memory, persistence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamclust.checks.check import Check

OLDEST = (6, 2)
"""The oldest version of Redis whose streams have all that is needed."""

_NEARLY_FULL = 0.8
"""Share of the memory limit from which the check warns."""


def check_server(label: str, info: Mapping[str, Any]) -> Iterator[Check]:
    """Yield the checks of a server from its reply to INFO."""
    yield _version(label, info)
    if info.get("role") == "slave" and not info.get("cluster_enabled"):
        yield Check(
            "fail",
            "server",
            "it is a replica, which accepts no writes; name the primary in redis.url",
        )
    if info.get("loading"):
        yield Check("warn", "server", "it is still loading its data; commands wait for it")
    yield _memory(info)
    yield _persistence(info)


def _version(label: str, info: Mapping[str, Any]) -> Check:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version", info.get("redis_version", "")))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name == "Redis" and numbers < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return Check("fail", "server", f"{label}, Redis {version}; install {wanted} or newer")
    return Check("ok", "server", f"{label}, {name} {version}")


def _memory(info: Mapping[str, Any]) -> Check:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if not limit:
        return Check("ok", "memory", f"{size_text(used)} used, no limit")
    found = f"{size_text(used)} of {size_text(limit)} used, policy {policy}"
    if policy.startswith("allkeys"):
        return Check(
            "fail",
            "memory",
            f"{found}: a full server deletes states and streams; set maxmemory-policy noeviction",
        )
    if policy != "noeviction":
        return Check(
            "warn",
            "memory",
            f"{found}: a full server deletes leases; set maxmemory-policy noeviction",
        )
    if used > _NEARLY_FULL * limit:
        return Check("warn", "memory", f"{found}; raise maxmemory, or trim streams (models.*.trim)")
    return Check("ok", "memory", found)


def _persistence(info: Mapping[str, Any]) -> Check:
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status", "ok") != "ok":
            return Check(
                "fail", "persistence", "the append-only file can't be written; see its log"
            )
        return Check("ok", "persistence", "append-only file")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Check("fail", "persistence", "the last snapshot failed; see the server's log")
    return Check(
        "warn",
        "persistence",
        "no append-only file: a crash of the server loses what no snapshot holds; "
        "set appendonly yes",
    )


def size_text(size: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1000.0:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000.0
    return f"{size:,.1f} GB"
