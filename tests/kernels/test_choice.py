"""Which kernels are used, and what is said where they can't be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamclust import kernels
from streamclust.errors import ConfigError
from streamclust.kernels import choice, native
from streamclust.system_limits import cores_of_process


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_in_use", None)
    monkeypatch.delenv("STREAMCLUST_KERNELS", raising=False)
    monkeypatch.delenv("STREAMCLUST_THREADS", raising=False)


def test_the_best_kernels_are_used_unless_others_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = kernels.available()
    best = next((name for name in native.TARGETS if name in names), "numpy")
    assert kernels.describe().split()[0] == best
    for name in names:
        monkeypatch.setattr(choice, "_in_use", None)
        monkeypatch.setenv("STREAMCLUST_KERNELS", name)
        assert kernels.describe() == name


def test_kernels_that_do_not_exist_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="STREAMCLUST_KERNELS=sse9"), kernels.using("sse9"):
        pass


def test_a_call_uses_all_cores_of_the_process_unless_fewer_threads_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, native_kernel: str
) -> None:
    for setting, threads in ((None, cores_of_process()), ("3", 3)):
        monkeypatch.setattr(choice, "_in_use", None)
        monkeypatch.setenv("STREAMCLUST_KERNELS", native_kernel)
        if setting is not None:
            monkeypatch.setenv("STREAMCLUST_THREADS", setting)
        found = choice.kernels_in_use()
        assert isinstance(found, native.Native)
        assert found.threads == threads


@pytest.mark.parametrize("threads", ["0", "-1", "many", "", "9" * 30])
def test_a_number_of_threads_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, threads: str
) -> None:
    monkeypatch.setenv("STREAMCLUST_THREADS", threads)
    with pytest.raises(ConfigError, match=f"STREAMCLUST_THREADS={threads}; expected"):
        kernels.describe()


def test_numpy_serves_where_nothing_was_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "none.so")
    assert kernels.available() == ("numpy",)
    assert kernels.describe().startswith("numpy (not built")
    with pytest.raises(ConfigError, match="not built"), kernels.using("avx2"):
        pass


def test_the_first_use_of_numpy_in_their_place_warns_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "none.so")
    X = np.zeros((2, 1))
    with pytest.warns(choice.SlowKernelsWarning) as caught:
        kernels.squared_distances(X, X)
        kernels.squared_distances(X, X)
    (warning,) = caught
    assert str(warning.message) == (
        "NumPy computes, which is several times slower: native kernels are not built: no C++ "
        "compiler was found at installation; install a C++ compiler (g++ or clang), then install "
        "streamclust again"
    )


def test_numpy_by_choice_does_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMCLUST_KERNELS", "numpy")
    kernels.squared_distances(np.zeros((2, 1)), np.zeros((2, 1)))
    assert kernels.native_missing() == ""


def test_a_library_that_is_none_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "_native.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(native, "LIBRARY", broken)
    with pytest.raises(native.UnavailableError, match="can't be loaded"):
        native.load()


def test_a_library_of_other_sources_is_not_used(
    monkeypatch: pytest.MonkeyPatch, native_kernel: str
) -> None:
    monkeypatch.setattr(native, "sources_hash", lambda: "another")
    with pytest.raises(native.UnavailableError, match="built from other sources"):
        native.load()
