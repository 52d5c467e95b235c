"""Reading samples from files: any file that ASE reads, extxyz with configurable keys, npz archives, HDF5 and LMDB."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ase import Atoms
from ase.io.formats import string2index

from mlff_calc.datasets.ase_files import iterate_frames, read_frames_with_ase
from mlff_calc.datasets.isolated import is_marked
from mlff_calc.datasets.labels import LabelKeys, available_names, disagreements, extract_labels
from mlff_calc.datasets.lazy import FrameFile, LazySamples
from mlff_calc.datasets.npz_files import read_npz
from mlff_calc.datasets.sample import KINDS, Kind, Sample, statements
from mlff_calc.datasets.units import Units
from mlff_calc.datasets.weights import NAMES
from mlff_calc.errors import DatasetError
from mlff_calc.graph.occupancy import check_occupancy
from mlff_calc.near import nearest, suggestion

logger = logging.getLogger(__name__)

STORED = {"hdf5": ".h5", "aselmdb": ".aselmdb"}
"""Formats with random access to frames, and the suffixes of their files."""
T = TypeVar("T")


def read_structures(
    path: str | os.PathLike[str],
    index: str | int | slice = ":",
    keys: LabelKeys | None = None,
    *,
    format: str | None = None,
    part: str | None = None,
    units: Units | None = None,
    checked: Collection[Kind] = KINDS,
) -> list[Sample]:
    """Read structures with their labels.

    Args:
        path: File, which may be compressed.
        index: Frames, as in ASE: ``":"``, ``"10:20"``, ``-1``. Others are neither parsed nor checked.
        keys: Names of the labels in files that ASE reads; by default energy, forces and stress, at ASE's places.
        format: ``npz`` or ``rmd17`` for archives, ``hdf5``, ``aselmdb``, or one of ASE's format names; None to decide
            by the file's name.
        part: ``train`` or ``test`` for rMD17 archives with parts.
        units: Units of the file; None for eV and Angstrom (kcal/mol for rMD17 archives).
        checked: Labels whose faults are errors. In files that ASE reads, other faulty labels are left out and recorded
            in `Sample.absent`.

    Returns:
        The frames in order, in eV and Angstrom.

    Raises:
        DatasetError: the file is missing (the message gives the nearest name), unreadable or empty; a label named in
            `keys` is in no frame; or a label has the wrong shape, is not finite, or has different values in two places
            (the message names file, frame and key).
    """
    return list(open_structures(path, index, keys, format=format, part=part, units=units, checked=checked))


def open_structures(
    path: str | os.PathLike[str],
    index: str | int | slice = ":",
    keys: LabelKeys | None = None,
    *,
    format: str | None = None,
    part: str | None = None,
    units: Units | None = None,
    checked: Collection[Kind] = KINDS,
) -> Sequence[Sample]:
    """Open structures like `read_structures`, but leave frames of HDF5 and LMDB in their file until they are needed.

    Arguments and errors are those of `read_structures`; a damaged frame of HDF5 or LMDB raises its error when it is
    read.
    """
    file = existing_file(path)
    if format in STORED or (format is None and file.suffix in STORED.values()):
        return _stored(file, index, keys or LabelKeys(), format or file.suffix, part, units, checked)
    if format in ("npz", "rmd17") or (format is None and file.suffix == ".npz"):
        if keys is not None and (keys.named() or keys.forces_sign != 1):
            raise DatasetError(
                f"{file}: label keys {keys.named()} and signs cannot be chosen for npz archives; leave `keys` out"
            )
        samples = [replace(s, archive_part=part or "") for s in read_npz(file, part, units, rmd17=format == "rmd17")]
        _say_supposed_units(units, samples, file)
    else:
        if part is not None:
            raise DatasetError(f"{file}: only rMD17 archives have parts; leave part: {part} out and split the frames")
        return _read_with_ase(file, index, keys or LabelKeys(), format, units or Units(), checked)
    return _select(samples, index, file)


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of an existing file; raises a DatasetError with the nearest name where there is none."""
    try:
        file = Path(path).expanduser()
    except RuntimeError as error:  # unknown user in ~name, or no home folder
        raise DatasetError(f"the path {os.fspath(path)!r} names no home folder ({error}); write the path out") from error
    if file.is_file():
        return file
    if file.is_dir():
        raise DatasetError(f"{file} is a folder; name a file in it")
    if not file.parent.is_dir():
        raise DatasetError(f"there is no file {file}: its folder {file.parent} does not exist; correct the path")
    near = nearest(file.name, sorted(entry.name for entry in file.parent.iterdir()), cutoff=0.5)
    hint = f"did you mean {file.parent / near}?" if near else "correct the path"
    raise DatasetError(f"there is no file {file}; {hint}")


def _read_with_ase(
    file: Path, index: str | int | slice, keys: LabelKeys, format: str | None, units: Units, checked: Collection[Kind]
) -> list[Sample]:
    """Read the chosen frames of a file with ASE."""
    frames = read_frames_with_ase(file, index, format)
    _require_named([atoms for _, atoms in frames], keys, file)
    samples = [_sample(atoms, number, file, keys, units, checked) for number, atoms in frames]
    _say_disagreements([name for _, atoms in frames for name in disagreements(atoms, keys)], file)
    _say_supposed_units(units, samples, file)
    return samples


def _sample(
    atoms: Atoms, number: int, file: Path, keys: LabelKeys, units: Units, checked: Collection[Kind] = KINDS
) -> Sample:
    """Turn a frame read by ASE into a sample."""
    place = f"{file}, frame {number}"
    check_occupancy(atoms, place)
    labels, absent = extract_labels(atoms, keys, units, place, checked)
    positions, cell = atoms.positions * units.length_factor, atoms.cell.array * units.length_factor
    return Sample(
        Atoms(atoms.numbers, positions, cell=cell, pbc=atoms.pbc, info=statements(atoms)), **labels, path=file, frame=number,
        absent=absent, config_type=str(atoms.info.get(keys.config_type, "")),
        stated_weights={name: atoms.info[name] for name in NAMES if name in atoms.info},
    )  # fmt: skip


def _stored(
    file: Path, index: str | int | slice, keys: LabelKeys, format: str, part: str | None, units: Units | None,
    checked: Collection[Kind],
) -> LazySamples:  # fmt: skip
    """Open the chosen frames of HDF5 or LMDB."""
    if part is not None:
        raise DatasetError(f"{file}: only rMD17 archives have parts; leave part: {part} out and split the frames")
    frames: FrameFile
    if STORED.get(format, format) == STORED["aselmdb"]:
        from mlff_calc.datasets.lmdb_frames import LMDBFrames

        frames = LMDBFrames(file, partial(_sample, file=file, keys=keys, units=units or Units(), checked=checked))
    else:
        from mlff_calc.datasets.hdf5_frames import HDF5Frames

        own = {kind: name for kind, name in keys.named().items() if kind != name}
        if own or keys.forces_sign != 1 or (units is not None and units.factors() != Units().factors()):
            raise DatasetError(
                f"{file}: the names and units of its labels are fixed (eV, Angstrom), so neither keys nor units can be "
                "chosen; leave them out, or give keys and units to each of the other files"
            )
        frames = HDF5Frames(file)
    return LazySamples.of_file(frames, _select(range(len(frames)), index, file))


def stream_structures(
    path: str | os.PathLike[str],
    index: str | int | slice = ":",
    keys: LabelKeys | None = None,
    *,
    format: str | None = None,
    part: str | None = None,
    units: Units | None = None,
) -> Iterator[Sample]:
    """Iterate over the samples of `read_structures`, if possible with only one of them in memory.

    Raises:
        DatasetError: see `read_structures`. A label named in `keys` that is in no frame is noticed only at the end.
    """
    file = existing_file(path)
    name = file.suffix if format is None else format
    if name in (*STORED, *STORED.values(), "npz", "rmd17", ".npz") or part is not None:
        yield from open_structures(file, index, keys, format=format, part=part, units=units)
        return
    keys, units = keys or LabelKeys(), units or Units()
    first: list[Atoms] = []
    missing, differ, said = dict(keys.named()), list[str](), False
    for number, atoms in iterate_frames(file, index, format):
        missing = {kind: name for kind, name in missing.items() if name not in available_names(atoms)}
        if len(first) < 20:
            first.append(atoms)
        sample = _sample(atoms, number, file, keys, units)
        if not said and sample.forces is not None:
            _say_supposed_units(units, [sample], file)
            said = True
        differ += disagreements(atoms, keys)
        yield sample
    _say_disagreements(differ, file)
    if missing:
        _require_named(first, keys, file)


def _say_disagreements(differ: list[str], file: Path) -> None:
    """Warn of labels with different values in two places; `differ` has one name for each frame and label."""
    if differ:
        logger.warning(
            "%s: %s of the structures (info or arrays) differ from the calculator's results in %d places; all labels are "
            "taken from the calculator. To use the others, save them under other names and give these in keys",
            file, " and ".join(sorted(set(differ))), len(differ),
        )  # fmt: skip


def _say_supposed_units(units: Units | None, samples: list[Sample], file: Path) -> None:
    """Warn if the unit of forces is assumed from the custom of programs and not given by the user."""
    if units is not None and units.forces_are_supposed and any(sample.forces is not None for sample in samples):
        logger.warning(
            "%s: forces are assumed to be in %s/Bohr, as programs write them beside positions in %s; give units.forces "
            "(%s/Bohr, or %s/%s) to confirm or correct this",
            file, units.energy, units.length, units.energy, units.energy, units.length,
        )  # fmt: skip


def _require_named(frames: list[Atoms], keys: LabelKeys, file: Path) -> None:
    """Refuse a file in which no frame has a label named by the user; isolated atoms need only an energy."""
    only_isolated = all(is_marked(str(atoms.info.get(keys.config_type, ""))) for atoms in frames)
    for kind, name in keys.named().items():
        if only_isolated and kind != "energy":
            continue
        if not frames or any(name in available_names(atoms) for atoms in frames):
            continue
        have = sorted({entry for atoms in frames[:20] for entry in available_names(atoms)})
        hint = suggestion(name, have, after=" ")
        raise DatasetError(
            f"{file}: no frame holds the {kind} label '{name}' that was requested: {hint}The frames hold {have}; "
            f"correct keys.{kind}"
        )


def _select(samples: Sequence[T], index: str | int | slice, file: Path) -> Sequence[T]:
    """Select the frames of an ASE index."""
    if not samples:
        raise DatasetError(f"{file} holds no structures; name another file")
    try:
        chosen = string2index(index) if isinstance(index, str) else index
        picked = samples[chosen]
    except (ValueError, TypeError, IndexError) as error:
        raise DatasetError(
            f"{file}: index {index!r} does not fit {len(samples)} frames; write one as in ASE, '10:20'"
        ) from error
    result: Sequence[T] = picked if isinstance(picked, Sequence) else [picked]
    if not result:
        raise DatasetError(f"{file}: index {index!r} selects none of the {len(samples)} frames")
    logger.debug("read %d of %d frames from %s", len(result), len(samples), file)
    return result
