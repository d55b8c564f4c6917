from __future__ import annotations

import math

import numpy as np
import pytest

from streamclust.demo.pictures import count_colours, psnr, quantize


def test_psnr_of_equal_pictures_is_infinite() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert psnr(picture, picture) == math.inf


@pytest.mark.parametrize(("step", "expected"), [(1, 48.1308), (5, 34.1514), (255, 0.0)])
def test_psnr_of_a_constant_error_has_a_closed_form(step: int, expected: float) -> None:
    black = np.zeros((3, 5, 3), np.uint8)
    assert psnr(black, np.full_like(black, step)) == pytest.approx(expected, abs=1e-4)


def test_psnr_is_symmetric_and_does_not_wrap_around() -> None:
    dark, light = np.full((2, 2, 3), 3, np.uint8), np.full((2, 2, 3), 250, np.uint8)
    assert psnr(dark, light) == psnr(light, dark) == pytest.approx(0.2768, abs=1e-4)


def test_each_pixel_gets_the_nearest_colour() -> None:
    picture = np.array([[[1, 1, 1], [250, 0, 0]], [[9, 9, 9], [130, 130, 130]]], np.uint8)
    colours = np.array([[0.4, 0.0, 0.0], [254.6, 0.0, 0.0], [127.0, 127.0, 127.0]])
    expected = [[[0, 0, 0], [255, 0, 0]], [[0, 0, 0], [127, 127, 127]]]
    assert quantize(picture, colours).tolist() == expected


def test_colours_beyond_the_cube_are_clipped() -> None:
    picture = np.zeros((1, 1, 3), np.uint8)
    assert quantize(picture, np.array([[-2.0, 256.0, 8.5]])).tolist() == [[[0, 255, 8]]]


def test_as_many_colours_as_the_picture_has_lose_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    own = np.unique(picture.reshape(-1, 3), axis=0).astype(np.float64)
    assert np.array_equal(quantize(picture, own), picture)


def test_colours_that_differ_in_one_part_are_counted() -> None:
    colours = [[1, 2, 3], [2, 1, 3], [3, 2, 1], [1, 2, 4], [1, 2, 3], [255, 255, 255]]
    assert count_colours(np.array([colours, colours], np.uint8)) == 5
