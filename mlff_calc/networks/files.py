"""Folders of the `potentials/` format: weights.safetensors with a JSON header, recipe.yaml, card.md.

Nothing is unpickled. The header holds the format version, the kind of the network and its use, the configuration that
it is built from, units, provenance and a checksum of the weights. Files of older versions are upgraded step by step
(`upgrades.py`), newer ones are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from safetensors import SafetensorError, safe_open

from mlff_calc.bounded import parse_json, require_regular, shorten
from mlff_calc.errors import PotentialFileError
from mlff_calc.networks.upgrades import FORMAT_VERSION, UPGRADES, Header, Tensors

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "weights.safetensors"


class Savable(Protocol):
    """Interface that a network must have to be saved; `networks.base.Network` describes the attributes."""

    kind: ClassVar[str]
    use: ClassVar[str]
    units: ClassVar[dict[str, str]]
    config: dict[str, Any]
    domain: dict[str, Any] | None

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name."""
        ...


def checksum(tensors: Tensors, header: Header, version: int = FORMAT_VERSION) -> str:
    """Compute the SHA-256 of tensors by name and of the header's `config`, `units` and `domain`, which give them meaning.

    Args:
        tensors: Tensors by name. From version 2 on their dtypes and shapes are included, since they decide what the
            bytes mean.
        header: Header of the file.
        version: Format version of the file.
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


def save_network(
    network: Savable,
    folder: str | Path,
    *,
    card: str | None = None,
    recipe: str | None = None,
    provenance: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a network to `folder`, which appears complete or not at all.

    Args:
        network: Network of any kind.
        folder: Folder to create.
        card: Description for people.
        recipe: YAML of the recipe that it was trained by.
        provenance: Data, command and machine.
        overwrite: Whether to replace an existing folder.

    Raises:
        PotentialFileError: The folder exists and `overwrite` is False.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise PotentialFileError(f"{folder} exists already; choose another folder, or pass overwrite=True")
    folder.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    header: Header = {
        "format_version": FORMAT_VERSION,
        "kind": network.kind,
        "use": network.use,
        "config": network.config,
        "units": network.units,
        "provenance": provenance or {},
    }
    if network.domain is not None:
        header["domain"] = network.domain
    header["sha256"] = checksum(tensors, header)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file(tensors, temporary / WEIGHTS, metadata={"mlff_calc": json.dumps(header)})
        (temporary / "card.md").write_text(card or f"{folder.name}: no card was written.\n", encoding="utf-8")
        if recipe is not None:
            (temporary / "recipe.yaml").write_text(recipe, encoding="utf-8")
        temporary.chmod(0o755)
        for item in temporary.iterdir():
            item.chmod(0o644)  # safetensors creates private files, but others may need to read a potential
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


def folder_of(path: str | Path) -> Path:
    """Return the folder of a network that is given by its folder or by the weights file in it."""
    path = Path(path)
    return path.parent if path.name == WEIGHTS else path


def kind_of(name_or_path: str | Path) -> str | None:
    """Read the kind of the network in a folder from its header; None where there are no weights.

    Raises:
        PotentialFileError: The header of the weights cannot be read.
    """
    folder = folder_of(name_or_path)
    return str(read_header(folder)["kind"]) if (folder / WEIGHTS).is_file() else None


def read_header(folder: str | Path) -> Header:
    """Read the header of a network's weights, upgraded to this version's format.

    Raises:
        PotentialFileError: The file is truncated, foreign or newer.
    """
    return _upgraded(folder_of(folder), _header_as_written(folder_of(folder)), {})[0]


def trained_reading(folder: str | Path) -> dict[str, Any]:
    """Return how the training data of a network were read, according to its header; empty where unknown.

    Raises:
        PotentialFileError: The file is truncated, foreign or newer.
    """
    reading = read_header(folder).get("provenance", {}).get("reading", {})
    return dict(reading) if isinstance(reading, dict) else {}


def check_kind(folder: Path, kind: str) -> None:
    """Check that a folder holds a network of a kind.

    Raises:
        PotentialFileError: It holds another kind (the message says what loads that), or is truncated, foreign or newer.
    """
    header = read_header(folder)
    if header["kind"] != kind:
        use = str(header.get("use") or "take another folder")[:300]
        raise PotentialFileError(f"{folder} holds a {header['kind']}, not a {kind}; {use}")


def read_weights(folder: Path, kind: str) -> tuple[Header, Tensors]:
    """Read header and tensors of a folder that holds a `kind`, verify the checksum and upgrade them.

    Raises:
        PotentialFileError: It holds another kind, or is truncated, foreign, newer, or was changed after it was written.
    """
    check_kind(folder, kind)
    return _upgraded(folder, *_as_written(folder))


def fingerprints(folder: Path) -> list[str]:
    """Return the checksums that identify a network: that of its file and, for a file of format 2, also that of format 1.

    Runs that began with a file of format 1 know the network by the latter.

    Raises:
        PotentialFileError: The file is truncated, foreign, newer, or was changed after it was written.
    """
    header, tensors = _as_written(folder)
    before = {key: value for key, value in header.items() if key != "domain"}
    return [header["sha256"]] + ([checksum(tensors, before, 1)] if header["format_version"] == 2 else [])


def _as_written(folder: Path) -> tuple[Header, Tensors]:
    """Header and tensors as written in the file, after the checksum was verified."""
    header = _header_as_written(folder)
    with safe_open(folder / WEIGHTS, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if checksum(tensors, header, header["format_version"]) != header["sha256"]:
        msg = f"{folder / WEIGHTS} does not match its checksum; it was changed after it was written: copy or train it again"
        raise PotentialFileError(msg)
    return header, tensors


def _upgraded(folder: Path, header: Header, tensors: Tensors) -> tuple[Header, Tensors]:
    """Header and tensors in the format of this version."""
    for version in range(header["format_version"], FORMAT_VERSION):
        try:
            header, tensors = UPGRADES[version](header, tensors)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise PotentialFileError(
                f"{folder / WEIGHTS} does not fit the network its header describes: as a file of version {version} it "
                f"lacks something ({type(error).__name__}: {shorten(str(error), 300)}); copy or train it again"
            ) from error
    return header, tensors


def _refuse_other_formats(file: Path) -> None:
    """Raise an error where an archive (an exported file or a checkpoint) stands in place of the weights."""
    with file.open("rb") as stream:
        begin = stream.read(2)
    if begin == b"PK":
        raise PotentialFileError(
            f"{file} is an archive, like exported files and checkpoints, and holds no weights: an exported file keeps "
            "its ending .pt or .pt2 and is given by its own path; a checkpoint becomes weights at the end of its "
            "training (mlff train --resume)"
        )


def _header_as_written(folder: Path) -> Header:
    """Read the header of a file of any version that this package knows, and check the types of its entries."""
    file = require_regular(folder / WEIGHTS, PotentialFileError)
    try:
        with safe_open(file, framework="numpy") as opened:  # numpy, since torch takes seconds to import
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        _refuse_other_formats(file)
        msg = f"{file} cannot be read; it is truncated or not a safetensors file ({error}); copy or train it again"
        raise PotentialFileError(msg) from error
    if "mlff_calc" not in metadata:
        raise PotentialFileError(f"{file} holds tensors but no mlff_calc header; it was not written by Potential.save")
    try:
        header: Header = parse_json(metadata["mlff_calc"])
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
    kind = "potential" if version < 3 else None  # files before version 3 may lack it
    for key, value, expected in (
        ("config", header.get("config"), dict),
        ("sha256", header.get("sha256"), str),
        ("kind", header.get("kind", kind), str),
    ):
        if not isinstance(value, expected):
            msg = f"{file}: its mlff_calc header has no sound {key!r}; copy or train the potential again"
            raise PotentialFileError(msg)
    domain = header.get("domain")
    if not isinstance(domain, dict | None):
        msg = f"{file}: the domain in its header is {str(domain)[:80]!r}, not a mapping; copy or train the potential again"
        raise PotentialFileError(msg)
    return header
