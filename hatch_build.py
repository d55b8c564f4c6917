"""Compile the native kernels, if there is a C++ compiler; if not, NumPy does their work.

One shared library without any Python in it: each target is the same source with other flags, and
the one that the processor can run is chosen when it is loaded. `CXX` names the compiler. On Linux
the C++ library is linked statically where the compiler can do so, so that a wheel needs only glibc
or musl.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "streamclust/kernels"
FLAGS = shlex.split(
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-math-errno "
    "-ffp-contract=off -pthread -w -Wno-psabi"
)

STATIC = shlex.split("-static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL")
if platform.system() != "Linux":
    STATIC = []

TARGETS = {"baseline": ""}
if platform.machine().lower() in ("x86_64", "amd64"):
    TARGETS["avx2"] = "-mavx2 -mfma"
    TARGETS["avx512"] = "-mavx2 -mfma -mavx512f -mavx512dq -mavx512vl -mavx512bw"
    TARGETS["avx512vnni"] = f"{TARGETS['avx512']} -mavx512vnni"


class CustomBuildHook(BuildHookInterface):
    """Called by hatchling before it gathers the files of a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the library next to the sources and say what kind of wheel this makes."""
        folder = Path(self.root) / FOLDER
        try:
            build(folder / "src", folder / "_native.so")
        except (OSError, subprocess.CalledProcessError) as error:
            (folder / "_native.so").unlink(missing_ok=True)
            self.app.display_warning(f"no native kernels, NumPy is used instead: {error}")
            return
        build_data["artifacts"].append(f"/{FOLDER}/_native.so")
        build_data["pure_python"] = False
        system = re.sub(r"[-.]", "_", sysconfig.get_platform())
        # Python itself may be universal on macOS; the library is for this processor.
        build_data["tag"] = f"py3-none-{system.replace('universal2', platform.machine())}"


def build(
    sources: Path,
    library: Path,
    more: Sequence[str] = (),
    targets: Mapping[str, str] = MappingProxyType(TARGETS),
) -> None:
    """Compile `sources` to `library`, which is replaced at once when all went well.

    `more` are flags for the compiler and the linker, as for a library that checks itself.
    """
    compiler = [*shlex.split(os.environ.get("CXX", "c++")), *FLAGS, *more]
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as folder:
        parts = [
            ("kernels", [*flags.split(), f"-DTARGET={name}"]) for name, flags in targets.items()
        ]
        stamp = f'-DSOURCES="{sources_hash(sources)}"'
        parts += [("redis_reply", []), ("threads", []), ("targets", [stamp])]
        objects = [f"{folder}/{number}.o" for number in range(len(parts))]
        commands = [
            [*compiler, *flags, "-c", sources / f"{source}.cpp", "-o", to]
            for (source, flags), to in zip(parts, objects, strict=True)
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(run, commands))  # an error of one is raised here
        link = [*compiler, "-shared", *objects, "-o", f"{folder}/library"]
        try:
            run([*link, *STATIC], stderr=subprocess.DEVNULL)
        except subprocess.CalledProcessError:  # no static C++ library, or another kind of linker
            run(link)
        Path(folder, "library").replace(library)


def run(command: list[Any], **options: Any) -> None:
    """Run a command; its output is shown if it fails."""
    subprocess.run(command, check=True, **options)


def sources_hash(sources: Path) -> str:
    """Return what `streamclust.kernels.native.sources_hash` will look for."""
    digest = hashlib.sha256()
    for path in sorted(sources.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()
