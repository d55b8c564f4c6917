"""The source distribution and the wheel, each installed where there is no compiler."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from streamclust.kernels.native import LIBRARY

ROOT = Path(__file__).parents[1]
INSTALLED = ROOT / "tests" / "support" / "installed.py"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    (built,) = SdistBuilder(str(ROOT)).build(directory=str(folder))
    return Path(built)


def install(archive: Path, folder: Path) -> Path:
    """Install an archive into a new environment without a compiler; return its Python.

    The environment has the dependencies of this one, but not its streamclust.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib"))
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (site / "dependencies.pth").write_text(f"{packages}\n")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    uv = Path(sys.executable).with_name("uv")
    words: list[str | Path] = (
        [uv, "pip", "install", "--python", python]  # uv needs a tenth of the time of pip
        if uv.exists()
        else [sys.executable, "-m", "pip", "--python", python, "install", "--no-compile"]
    )
    subprocess.run(
        [*words, *options, archive],
        env={"PATH": str(folder / "bin"), "HOME": str(folder)},
        check=True,
    )
    return python


def check(python: Path, kernels: str) -> str:
    done = subprocess.run(
        [python, INSTALLED, "--kernels", kernels],
        cwd=python.parent,
        env={"PATH": str(python.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sources_without_a_compiler_are_installed_and_compute_with_numpy(
    sdist: Path, tmp_path: Path
) -> None:
    python = install(sdist, tmp_path / "venv")
    assert "kernels: numpy (not built: no C++ compiler was found" in check(python, "numpy")


@pytest.mark.skipif(not LIBRARY.exists(), reason="no native kernels here")
def test_a_wheel_needs_no_compiler_and_no_other_version_of_python(
    sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel is built from the source distribution; `make dist` also compiles it."""
    compiler = tmp_path / "compiler"  # compiling takes most of a minute
    compiler.write_text(f'#!/bin/sh\nfor last; do :; done\ncp "{LIBRARY}" "$last"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # since Python 3.11.4
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(tmp_path)  # noqa: S202 (built a moment ago)
    (unpacked,) = tmp_path.glob("streamclust-*")
    (built,) = WheelBuilder(str(unpacked)).build(directory=str(tmp_path))
    assert Path(built).name.split("-")[2:4] == ["py3", "none"]
    assert Path(built).stem.endswith(platform.machine())
    names = zipfile.ZipFile(built).namelist()
    assert "streamclust/kernels/_native.so" in names
    assert not [name for name in names if name.startswith("tests/")]
    assert "numpy" not in check(install(Path(built), tmp_path / "venv"), "native")
    assert os.environ["CXX"] == str(compiler)
