"""Native code under AddressSanitizer and UndefinedBehaviorSanitizer, where the compiler has them.

python -m tests.sanitize

A library of its own is built with them. Python takes it in the place of the installed one, and has
libasan loaded before all else, so that arrays of NumPy have guarded ends.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from streamclust import kernels
from streamclust.kernels import choice, native

_FLAGS = shlex.split(
    "-g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
)
_NO_POINTER_CHECKS = "-fno-sanitize=null,pointer-overflow,alignment"
"""AddressSanitizer checks the memory that a pointer leads to anyway."""

_FORKS = "tests/kernels/test_threads.py::test_a_child_after_a_fork_starts_its_own_helpers"
"""A fork while another thread allocates: GCC 12's AddressSanitizer leaves its lock taken in the
child, which then waits for ever."""

OPTIONS = ("--processes", "2", "-q", "-p", "no:cacheprovider", "--deselect", _FORKS)
"""Options of pytest."""

TESTS = (
    *("tests/kernels/test_kernels.py", "tests/kernels/test_kmeans_step.py"),
    *("tests/kernels/test_mixture_step.py", "tests/kernels/test_sampling.py"),
    "tests/kernels/test_gaps.py",
    *("tests/kernels/test_seeding_searches.py", "tests/kernels/test_threads.py"),
    "tests/store/reply/test_native.py",
    *("tests/store/reply/test_packed_codes.py", "tests/store/reply/test_parser.py", "tests/fuzz"),
)


def runtime() -> Path | None:
    """Return the runtime library of AddressSanitizer; None if the compiler has none."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    if shutil.which(compiler[0]) is None:
        return None
    question = [*compiler, "-print-file-name=libasan.so"]
    found = Path(
        subprocess.run(question, check=True, capture_output=True, text=True).stdout.strip()
    )
    return found.resolve() if found.is_absolute() and found.exists() else None


def why_not() -> str:
    """Return why nothing can be run under the sanitizers here; empty if it can."""
    if sys.platform != "linux":
        return f"the sanitizers are preloaded as on Linux, and this is {sys.platform}"
    if runtime() is None:
        return "the C++ compiler (CXX, by default c++) has no libasan.so"
    if kernels.available() == (choice.NUMPY,):
        return "there is no native library here"
    if find_spec("hatchling") is None:
        return "hatchling is not installed, which hatch_build.py needs"
    return ""


def build(library: Path, targets: Sequence[str], *, quick: bool = False) -> None:
    """Build a library that checks itself.

    A `quick` build isn't optimized, and its kernels have the checks of AddressSanitizer and those
    of UndefinedBehaviorSanitizer that aren't about each pointer: it takes less than half the time.
    """
    import hatch_build  # needs hatchling

    less = f" {_NO_POINTER_CHECKS}" if quick else ""
    chosen = {name: hatch_build.TARGETS[name] + less for name in targets}
    hatch_build.build(native.SOURCES, library, ["-O0" if quick else "-O1", *_FLAGS], chosen)


def run(
    library: Path, command: list[str], *, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a Python command with that library; a finding ends it with an error."""
    settings = {
        "TEST_LIBRARY": str(library),
        "LD_PRELOAD": str(runtime()),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **settings},
        cwd=Path(__file__).parents[1],
        text=True,
        capture_output=capture,
        check=False,
    )


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0), default=120, show_default=True)
def main(seconds: float) -> None:
    """Run the tests of kernels and decoders, then the fuzzer of native code for so long."""
    reason = why_not()
    if reason:
        click.echo(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "native.so"
        build(library, kernels.available()[1:])
        tests = ["-m", "pytest", *OPTIONS, *TESTS]
        fuzz = ["-m", "tests.fuzz.native", "--seconds", str(seconds)]
        codes = [run(library, command).returncode for command in (tests, fuzz)]
    if any(codes):
        raise click.ClickException("a sanitizer, or a test, has found something; see above")
    click.echo("no sanitizer has found anything")


if __name__ == "__main__":
    main()
