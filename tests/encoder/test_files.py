"""Files of codes: what is decoded is the nearest centroid, in ceil(log2 K) bits a point."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from streamclust.encoder.files import decode_file, encode_file, write_points
from streamclust.encoder.packed import Header, Packer, bits_of, from_bytes, to_bytes, unpack_codes
from streamclust.encoder.pictures import psnr, read_picture, write_picture
from streamclust.errors import DataError, FormatError
from streamclust.store.published import Model
from tests.encoder.desk import model_of
from tests.worker.harness import blobs


def no_server(name: str, version: int) -> Model:
    raise AssertionError("the file holds its codebook")


@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 8, 9, 255, 256, 257, 100_000])
def test_bits_tell_all_codes_apart(K: int) -> None:
    assert bits_of(K) == math.ceil(math.log2(K))


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
