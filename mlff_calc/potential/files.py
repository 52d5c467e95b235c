"""Folders of the `potentials/` format: weights.safetensors with a JSON header, recipe.yaml, card.md.

Nothing is unpickled. The header holds the format version, the configuration the network is built from, units, provenance
and a checksum of the weights. Older versions are upgraded step by step (`UPGRADES`), newer ones are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from safetensors import SafetensorError, safe_open

from mlff_calc.bounded import parse_json, require_regular, shorten
from mlff_calc.errors import PotentialFileError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 2
WEIGHTS = "weights.safetensors"
UNITS = {"energy": "eV", "length": "Angstrom", "forces": "eV/Angstrom", "stress": "eV/Angstrom^3"}
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: lambda header: header}
"""One function per version step: header of version n to header of version n + 1. Version 2 differs in its checksum alone."""
_USES = {
    "propagator": "use load_propagator, or `mlff eval`: it gives positions at a later time, and neither energy nor forces",
    "potential": "use load_potential, or `mlff md`: it gives energy and forces, and no positions at a later time",
}
NO_NETWORK = (
    RecipeError, RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, MemoryError,
    AssertionError,
)  # fmt: skip
"""What a configuration that describes no network, or not that of the tensors beside it, may raise while one is built."""


class Savable(Protocol):
    """What a folder is written from: a configuration, and tensors by name."""

    config: dict[str, Any]

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name."""
        ...


def checksum(tensors: dict[str, Tensor], header: dict[str, Any], version: int = FORMAT_VERSION) -> str:
    """SHA-256 of tensors by name and of what gives them their meaning: the header's `config`, `units` and `domain`.

    Args:
        tensors: by name; their dtypes and shapes count from version 2 on, since other ones give the same bytes another
            meaning.
        header: of the file.
        version: format version of the file.
    """
    import torch  # here, since reading a header needs none of it

    meaning = {key: header.get(key) for key in ("config", "units")}
    if "domain" in header:
        meaning["domain"] = header["domain"]
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(name.encode())
        if version > 1:
            digest.update(f" {tensor.dtype} {list(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_tensors(network: Any, tensors: dict[str, Tensor]) -> None:  # noqa: ANN401
    """Give a network the tensors of a file.

    Args:
        network: a module as built from the file's configuration.
        tensors: by name.

    Raises:
        ValueError: a tensor of another dtype than the network's, which torch would convert without a word; float64, which
            training and saving in that precision write, is rounded to float32.
        RuntimeError: other names or shapes than the network's.
    """
    import torch

    floats = (torch.float32, torch.float64)
    for name, own in network.state_dict().items():
        if name in tensors and tensors[name].dtype != own.dtype and not {tensors[name].dtype, own.dtype} <= {*floats}:
            raise ValueError(f"{name} is {tensors[name].dtype} in the file and {own.dtype} in the network")
    network.load_state_dict(tensors)


def save_potential(
    potential: Savable,
    folder: str | Path,
    *,
    card: str | None = None,
    recipe: str | None = None,
    provenance: dict[str, Any] | None = None,
    overwrite: bool = False,
    kind: str = "potential",
    units: dict[str, str] = UNITS,
) -> Path:
    """Write a potential to `folder`; the folder appears whole or not at all.

    Args:
        potential: what to write.
        folder: where.
        card: text for people.
        recipe: YAML it was trained by.
        provenance: data, command and machine.
        overwrite: replace a folder that is there.
        kind: what the folder holds, other than a potential.
        units: of the numbers inside.

    Raises:
        PotentialFileError: the folder exists and `overwrite` is False.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and not overwrite:
        msg = f"{folder} exists already; choose another folder, or pass overwrite=True"
        raise PotentialFileError(msg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in potential.state_dict().items()}
    header: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "config": potential.config,
        "units": units,
        "provenance": provenance or {},
    }
    if kind != "potential":
        header["kind"] = kind
    domain = getattr(potential, "domain", None)
    if domain is not None:
        header["domain"] = domain
    header["sha256"] = checksum(tensors, header)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file(tensors, temporary / WEIGHTS, metadata={"mlff_calc": json.dumps(header)})
        (temporary / "card.md").write_text(card or f"{folder.name}: no card was written.\n", encoding="utf-8")
        if recipe is not None:
            (temporary / "recipe.yaml").write_text(recipe, encoding="utf-8")
        temporary.chmod(0o755)
        for item in temporary.iterdir():
            item.chmod(0o644)  # safetensors makes private files, and a shipped potential is for everybody
        if folder.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            os.replace(folder, aside)
            temporary.rename(folder)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_weights(folder: Path, kind: str = "potential") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a folder that holds a `kind`, checked against their checksum.

    Raises:
        PotentialFileError: something else, truncated, foreign, newer, or changed after it was written.
    """
    header = check_kind(folder, kind)
    with safe_open(folder / WEIGHTS, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if checksum(tensors, header, int(header["format_version"])) != header["sha256"]:
        msg = f"{folder / WEIGHTS} does not match its checksum; it was changed after it was written: copy or train it again"
        raise PotentialFileError(msg)
    return header, tensors


def kind_of(name_or_path: str | Path) -> str | None:
    """What a folder of weights holds, by its header; None where there is no such folder.

    Raises:
        PotentialFileError: the folder holds weights whose header cannot be read.
    """
    path = Path(name_or_path)
    path = path.parent if path.name == WEIGHTS else path
    return str(read_header(path).get("kind", "potential")) if (path / WEIGHTS).is_file() else None


def fingerprints(folder: Path) -> list[str]:
    """Checksums that tell a potential from others: of its file, and the one of format version 1, which older runs know.

    Raises:
        PotentialFileError: truncated, foreign, changed or newer.
    """
    header, tensors = read_weights(folder)
    before = {key: value for key, value in header.items() if key != "domain"}
    return [header["sha256"], checksum(tensors, before, version=1)]


def check_kind(folder: Path, kind: str = "potential") -> dict[str, Any]:
    """Header of a folder that is to hold a `kind`.

    Raises:
        PotentialFileError: it holds something else; says what takes that. Truncated, foreign, or newer.
    """
    header = read_header(folder)
    held = header.get("kind", "potential")
    if held != kind:
        hint = _USES.get(held, "take another folder")
        raise PotentialFileError(f"{folder} holds a {held}, not a {kind}; {hint}")
    return header


def _refuse_other_formats(file: Path) -> None:
    """Say so where an archive stands in place of weights: an exported file or a training's checkpoint."""
    with file.open("rb") as stream:
        begin = stream.read(2)
    if begin == b"PK":
        raise PotentialFileError(
            f"{file} is an archive, as exported files and checkpoints are, and no weights: an exported file keeps its "
            "ending .pt or .pt2 and is named itself; a checkpoint becomes weights where training ends (mlff train --resume)"
        )


def read_header(folder: str | Path) -> dict[str, Any]:
    """Header of a potential's weights, upgraded to this version's format.

    Raises:
        PotentialFileError: truncated, foreign, or newer.
    """
    file = require_regular(Path(folder) / WEIGHTS, PotentialFileError)
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        _refuse_other_formats(file)
        msg = f"{file} cannot be read, it is truncated or no safetensors file ({error}); copy or train it again"
        raise PotentialFileError(msg) from error
    if "mlff_calc" not in metadata:
        msg = f"{file} holds tensors but no mlff_calc header; it was not written by Potential.save"
        raise PotentialFileError(msg)
    try:
        header = parse_json(metadata["mlff_calc"])
        version = header["format_version"]
        if not isinstance(version, int):
            raise TypeError(f"its format version is {shorten(version)}")
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{file}: its mlff_calc header is damaged ({shorten(str(error), 300)}); copy or train the potential again"
        raise PotentialFileError(msg) from error
    if version < 1:
        msg = f"{file} has format version {version}; the first one is 1: copy or train the potential again"
        raise PotentialFileError(msg)
    if version > FORMAT_VERSION:
        msg = f"{file} has format version {version}, this package reads up to {FORMAT_VERSION}; upgrade mlff_calc"
        raise PotentialFileError(msg)
    for key, kind in (("config", dict), ("sha256", str), ("kind", str)):
        if not isinstance(header.get(key, "potential" if key == "kind" else None), kind):
            msg = f"{file}: its mlff_calc header has no sound {key!r}; copy or train the potential again"
            raise PotentialFileError(msg)
    domain = header.get("domain")
    if not isinstance(domain, dict | None):
        msg = f"{file}: the domain in its header is {str(domain)[:80]!r}, not a mapping; copy or train the potential again"
        raise PotentialFileError(msg)
    while version < FORMAT_VERSION:
        header = UPGRADES[version](header)
        version += 1
    return header
