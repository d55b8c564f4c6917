"""The user's files: read within bounds, written whole or not at all."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from streamclust.errors import DataError
from streamclust.files import (
    SMALL_BYTES,
    check_expansion,
    check_target,
    new_file,
    read_whole,
    write_whole,
)


def kinds(folder: Path) -> dict[str, Path]:
    """Something at a path that is no regular file, by what messages call it."""
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to(folder / "other")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return {
        "a folder": folder / "folder",
        "a FIFO": folder / "fifo",
        "a symbolic link": folder / "link",
        "a socket": folder / "socket",
        "a device": Path("/dev/null"),
    }


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    for kind, path in kinds(tmp_path).items():
        with pytest.raises(DataError, match=f"can't read {path}: ") as caught:
            read_whole(path, 10)
        if kind in ("a FIFO", "a device"):
            assert str(caught.value).endswith(f"it is {kind}; name a regular file")
    with pytest.raises(DataError, match="No such file"):
        read_whole(tmp_path / "nowhere", 10)
    with pytest.raises(DataError, match="null byte"):
        read_whole("a\0b", 10)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(DataError, match=r"has 1,099,511,627,776 bytes; expected at most 10"):
        read_whole(path, 10)
    os.truncate(path, 10)
    assert read_whole(path, 10) == bytes(10)


def test_contents_may_not_be_out_of_proportion() -> None:
    check_expansion("f", SMALL_BYTES, 0, 1)
    check_expansion("f", 4 * SMALL_BYTES, SMALL_BYTES, 4)
    with pytest.raises(DataError, match="f would unpack to 39,728,447,488 bytes from 872"):
        check_expansion("f", 37 << 30, 872, 4096)


def test_a_new_file_takes_the_place_of_the_old_one_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with new_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "out", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
    (tmp_path / "out").chmod(0o4755)
    write_whole(tmp_path / "out", b"y")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


def test_links_devices_and_the_like_are_not_written(tmp_path: Path) -> None:
    before = kinds(tmp_path)
    names = sorted(tmp_path.iterdir())
    for kind, path in before.items():
        for write in (check_target, lambda path: write_whole(path, b"x")):
            with pytest.raises(DataError, match=f"can't write {path}: it is {kind}; name a regu"):
                write(path)
    assert sorted(tmp_path.iterdir()) == names
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_nothing_is_left_after_an_exception(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(error), new_file(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "out", tmp_path / ("x" * 300)):
        with pytest.raises(DataError, match="can't write"):
            write_whole(path, b"x")
    with pytest.raises(DataError, match=r"nowhere doesn.t exist"):
        check_target(tmp_path / "nowhere" / "out")
    with pytest.raises(DataError, match="No space left on device"), new_file(tmp_path / "o"):
        raise OSError(28, "")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_file_system_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DataError, match="can't write"):
        write_whole(tmp_path / "nowhere" / "out", b"x")


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".npy")
    write_whole(path, b"x")
    assert list(tmp_path.iterdir()) == [path]
