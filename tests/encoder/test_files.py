"""Files of codes: what is decoded is the nearest centroid, in ceil(log2 K) bits a point."""

from __future__ import annotations

import csv
import math
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from streamclust.encoder.files import decode_file, decode_parts, encode_file, write_points
from streamclust.encoder.pictures import psnr, read_picture
from streamclust.errors import DataError, FormatError
from streamclust.formats.code_file import (
    FORMAT,
    Header,
    Packer,
    bits_of,
    from_bytes,
    to_bytes,
    unpack_codes,
)
from streamclust.formats.container import pack
from streamclust.formats.model import Model
from tests.support.encoder_fixture import model_of
from tests.support.exhaustive import examples
from tests.support.pictures import write_picture
from tests.support.points import blobs


def no_server(name: str, version: int) -> Model:
    raise AssertionError("the file holds its codebook")


@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 8, 9, 255, 256, 257, 100_000])
def test_bits_tell_all_codes_apart(K: int) -> None:
    assert bits_of(K) == math.ceil(math.log2(K))


@examples(100)
@given(st.integers(1, 5000), st.lists(st.integers(0, 40), max_size=6), st.integers(0, 2**32 - 1))
def test_packed_codes_come_back(K: int, sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    pieces = [rng.integers(0, K, size).astype(np.int32) for size in sizes]
    packer = Packer(bits_of(K))
    for piece in pieces:
        packer.add(piece)
    data, n = packer.done(), sum(sizes)
    assert len(data) == math.ceil(n * bits_of(K) / 8)
    wanted = np.concatenate([np.empty(0, np.int32), *pieces])
    np.testing.assert_array_equal(unpack_codes(data, bits_of(K), n), wanted)


@examples(60)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_a_file_decodes_to_the_nearest_centroids(
    tmp_path_factory: pytest.TempPathFactory, N: int, K: int, D: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X, U = rng.normal(size=(N, D)), rng.normal(size=(K, D))
    path = tmp_path_factory.getbasetemp() / "codes"
    report = encode_file(model_of(4, U), [X[:7], X[7:]], path)
    header, found = decode_file(path, no_server)
    distances = np.linalg.norm(X[:, None] - U[None], axis=2)
    np.testing.assert_array_equal(found, U[distances.argmin(axis=1)])
    J = ((X - found) ** 2).sum()
    np.testing.assert_allclose([report.distortion, header.distortion], J / N, rtol=1e-12)
    assert (report.points, report.bits_per_point) == (N, bits_of(K))
    assert report.file_bytes == path.stat().st_size


def test_a_file_may_only_name_its_model(tmp_path: Path) -> None:
    model, X = model_of(4), blobs(1000)
    small, large = tmp_path / "small", tmp_path / "large"
    encode_file(model, [X], small, codebook=False)
    encode_file(model, [X], large)
    assert small.stat().st_size < large.stat().st_size
    asked: list[tuple[str, int]] = []

    def find(name: str, version: int) -> Model:
        asked.append((name, version))
        return model

    np.testing.assert_array_equal(decode_file(small, find)[1], decode_file(large, no_server)[1])
    assert asked == [("m", 4)]


def test_points_are_written_so_that_they_are_read_back(tmp_path: Path) -> None:
    X = blobs(20) / 3.0
    write_points(tmp_path / "x.npy", X, ())
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), X)
    write_points(tmp_path / "x.csv", X, ("a", "b"))
    assert (tmp_path / "x.csv").read_text().startswith("a,b\n")
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "x.csv", delimiter=",", skiprows=1), X)


@pytest.mark.parametrize(("channels", "peak"), [(3, 255.0), (3, 1.0), (1, 255.0)])
def test_a_picture_and_its_psnr(tmp_path: Path, channels: int, peak: float) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 17, channels)).astype(np.uint8)
    shape = (12, 17, channels)
    write_picture(
        tmp_path / "in.png", np.float64(peak / 255.0) * pixels.reshape(-1, channels), shape, peak
    )
    read = read_picture(tmp_path / "in.png", channels)
    np.testing.assert_array_equal(read, pixels)
    # When it is encoded with colours that it has not all
    U = np.round(rng.random((16, channels)) * 255) * (peak / 255.0)
    X = read.reshape(-1, channels) * (peak / 255.0)
    report = encode_file(model_of(1, U), [X], tmp_path / "codes", picture=shape, peak=peak)
    header, found = decode_file(tmp_path / "codes", no_server)
    assert header.picture == shape
    write_picture(tmp_path / "out.png", found, shape, header.peak)
    # Then the PSNR is that of the picture that comes out
    with Image.open(tmp_path / "out.png") as picture:
        out = np.asarray(picture, np.float64).reshape(shape)
    mse = np.mean((out - pixels) ** 2)
    assert report.psnr == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-6)
    assert report.bits_per_point == 4


def test_a_perfect_picture_has_an_infinite_psnr() -> None:
    assert psnr(0.0, 3, 255.0) == math.inf


def bytes_of(**changes: Any) -> bytes:
    header = Header(**{"model": "m", "version": 1, "n": 3, "n_components": 4, **changes})
    return to_bytes(header, np.zeros(1, np.uint8), None)


@pytest.mark.parametrize("data", [b"", b"spam", bytes_of()[:-1], bytes_of(n=30), bytes_of(n="x")])
def test_damaged_files_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="codes-file"):
        from_bytes(data, "codes-file")


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected 2"):
        encode_file(model_of(1), [np.zeros((3, 5))], tmp_path / "codes")
    with pytest.raises(DataError, match="no points to encode"):
        encode_file(model_of(1), [], tmp_path / "codes")
    with pytest.raises(DataError, match="can't write"):
        encode_file(model_of(1), [blobs(3)], tmp_path / "nowhere" / "codes")
    with pytest.raises(DataError, match="can't read"):
        decode_file(tmp_path / "nowhere", no_server)
    with pytest.raises(DataError, match=r"has 2 features; a picture has 1 \(grey\) or 3"):
        read_picture(tmp_path / "x.png", 2)
    (tmp_path / "x.png").write_bytes(b"spam")
    with pytest.raises(DataError, match="can't read the picture"):
        read_picture(tmp_path / "x.png", 3)
    assert list(tmp_path.iterdir()) == [tmp_path / "x.png"]


def test_a_file_that_names_a_model_which_was_begun_anew_is_refused(tmp_path: Path) -> None:
    path, first = tmp_path / "codes", model_of(4, model_id=6)
    encode_file(first, [blobs(10)], path, codebook=False)
    assert decode_file(path, lambda *_: first)[0].model_id == 6
    with pytest.raises(DataError, match=r"codes by an earlier model 'm'.*version 4 is another"):
        decode_file(path, lambda *_: model_of(4, model_id=8))
    # and one with a codebook needs no model
    encode_file(first, [blobs(10)], path)
    assert decode_file(path, no_server)[0].model_id == 0


BOOK = np.zeros((4, 2))


def file_of(header: dict[str, Any], codes: Any = None, codebook: Any = BOOK) -> bytes:
    """A file of codes with a true checksum, whatever it says."""
    plain = asdict(Header(model="m", version=1, n=3, n_components=4))
    arrays = {"codes": np.zeros(1, np.uint8) if codes is None else codes}
    if codebook is not None:
        arrays["codebook"] = codebook
    return pack(FORMAT, arrays, {**plain, **header})


def test_a_file_of_one_component_cannot_ask_for_any_number_of_points(tmp_path: Path) -> None:
    header = {"n": 5_000_000_000, "n_components": 1}
    nothing = np.empty(0, np.uint8)
    path = tmp_path / "codes"
    for codebook in (np.zeros((1, 1)), None):
        path.write_bytes(file_of(header, nothing, codebook))
        assert path.stat().st_size < 1000
        with pytest.raises(FormatError, match=r"would unpack to 40,000,000,000 bytes from \d{3};"):
            decode_file(path, no_server)
    # nor one whose codebook, found elsewhere, is wide
    path.write_bytes(file_of({**header, "n": 10_000_000}, nothing, None))
    with pytest.raises(FormatError, match="would unpack to 8,000,000,000 bytes"):
        decode_file(path, lambda *_: model_of(1, np.zeros((1, 100))))
    with pytest.raises(FormatError, match="doesn't fit model 'm'"):
        decode_file(path, lambda *_: model_of(1, np.zeros((3, 1))))


@pytest.mark.parametrize(
    "codebook",
    [
        np.zeros((3, 2)),
        np.zeros((5, 2)),
        np.zeros(4),
        np.zeros((4, 2, 2)),
        np.zeros((4, 0)),
        np.zeros((0, 10**9)),
        np.full((4, 2), np.nan),
        np.zeros((4, 2), np.float32),
    ],
    ids=lambda codebook: f"{codebook.dtype} {codebook.shape} {codebook.max(initial=0)}",
)
def test_a_codebook_that_does_not_fit_is_refused(codebook: Any) -> None:
    with pytest.raises(FormatError, match=r"^f holds damaged codes: .*codebook of "):
        from_bytes(file_of({}, codebook=codebook), "f")


@pytest.mark.parametrize(
    "header",
    [
        {"n": -1},
        {"n": 0},
        {"n": True},
        {"n": 3.0},
        {"n": 10**30},
        {"n": float("inf")},
        {"n_components": 0},
        {"n_components": 10**12},
        {"version": None},
        {"model": 3},
        {"model": "../m\x1b"},
        {"model": "/dev/zero.safetensors"},
        {"features": "xy"},
        {"features": ["x"]},
        {"features": [3, 4]},
        {"distortion": float("nan")},
        {"peak": 0},
        {"peak": "255"},
        {"picture": [1, 3]},
        {"picture": [1, 3, 4]},
        {"picture": [-1, -3, 1]},
        {"picture": [1000, 1000, 3]},
        {"picture": 3},
    ],
    ids=repr,
)
def test_a_header_that_makes_no_sense_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=r"^f holds damaged codes: "):
        from_bytes(file_of(header), "f")


@pytest.mark.parametrize("codes", [np.zeros(2, np.uint8), np.zeros((1, 1), np.uint8), np.zeros(1)])
def test_codes_of_another_size_are_refused(codes: Any) -> None:
    with pytest.raises(FormatError, match=r"^f holds damaged codes: "):
        from_bytes(file_of({}, codes), "f")


def test_points_are_decoded_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamclust.encoder.files._PART_CELLS", 100)
    X = blobs(1000)
    path = tmp_path / "codes"
    for K in (1, 3):
        model = model_of(4, np.arange(2.0 * K).reshape(K, 2))
        encode_file(model, [X], path)
        header, D, parts = decode_parts(path, no_server)
        sizes = [len(part) for part in parts]
        assert (header.n, D, sum(sizes)) == (1000, 2, 1000)
        assert max(sizes) <= 48
        np.testing.assert_array_equal(
            decode_file(path, no_server)[1], model.means[model.predict(X)]
        )


def test_more_codes_than_can_be_decoded_are_not_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.encoder.files.MAX_BYTES", 100)
    with pytest.raises(DataError, match="more than 100 bytes of codes; encode into several files"):
        encode_file(model_of(4), [blobs(401)], tmp_path / "codes")
    assert list(tmp_path.iterdir()) == []
    encode_file(model_of(4), [blobs(400)], tmp_path / "codes")


def test_names_in_csv_are_safe_cells_and_numbers_stay_numbers(tmp_path: Path) -> None:
    names = ("=1+1", "a,b", '"q"', "\x1b[31m", "-x", "@sum", "ok")
    X = -np.arange(14.0).reshape(2, 7)
    write_points(tmp_path / "x.csv", X, names)
    with (tmp_path / "x.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["'=1+1", "a,b", '"q"', r"\x1b[31m", "'-x", "'@sum", "ok"]
    assert [[float(cell) for cell in row] for row in rows] == X.tolist()


def png(width: int, height: int) -> bytes:
    """The head of a picture of this size, with no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return len(data).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    parts = (chunk(b"IHDR", size + bytes((8, 2, 0, 0, 0))), chunk(b"IDAT", zlib.compress(b"")))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png(60_000, 60_000), "exceeds limit"),
        (png(13_000, 13_000), "it has 13,000 x 13,000 pixels; expected 1 to 89,478,485"),
        (png(0, 5), ""),
        (png(2**32 - 1, 1), ""),
        (png(10, 10), ""),
        (png(10, 10)[:30], ""),
        (b"", ""),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot identify"),
    ],
)
def test_pictures_that_claim_too_much_or_nothing(
    data: bytes, message: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"can't read the picture") as caught:
        read_picture(path, 3)
    assert message in str(caught.value)
    assert not recwarn.list


def test_pictures_with_a_palette_are_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (5, 4)).astype(np.uint8)
    picture = Image.fromarray(pixels, "P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "p.png")
    assert set(map(tuple, read_picture(tmp_path / "p.png", 3).reshape(-1, 3).tolist())) == {
        (10, 20, 30),
        (40, 50, 60),
    }
    with pytest.raises(DataError, match=r"unknown format; name a \.png file"):
        write_picture(tmp_path / "p.exe", np.zeros((20, 3)), (5, 4, 3), 255.0)
