"""Files of motion in which every array is damaged in every way give one clear error or a sensible result."""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from mlff_calc.cli.console import run_cli
from mlff_calc.cli.main import build_app
from mlff_calc.datasets.motion import NBodyOptions, check_sample, make_nbody, read_motion
from mlff_calc.errors import DatasetError, StructureError
from mlff_calc.propagator import build_propagator, motion_graph

Arrays = dict[str, np.ndarray]
HORIZON = 4
RECIPE = {
    "propagator": {"backbone": {"name": "hegnn", "l_max": 1, "channels": 4, "n_layers": 1}},
    "data": {"horizon": HORIZON},
    "optimizer": {"batch_size": 4, "max_epochs": 1, "warmup_steps": 1},
    "trainer": {"device": "cpu"},
}


def _walk(n_frames: int, n: int, seed: int) -> np.ndarray:
    """Write bodies on a zigzag line with small vibrations."""
    along = np.stack([1.2 * np.arange(n), 0.5 * (np.arange(n) % 2), np.zeros(n)], axis=1)
    return along + np.cumsum(0.01 * np.random.default_rng(seed).standard_normal((n_frames, n, 3)), axis=0)


@functools.cache
def nbody() -> Arrays:
    return make_nbody(NBodyOptions(n_bodies=3, train=2, valid=2, test=1, frames=(30, 34), seed=1))


def md17() -> Arrays:
    return {"R": _walk(120, 4, 0), "z": np.asarray([6, 6, 8, 1]), "r_unit": np.asarray("Angstrom"), "E": np.zeros(120)}


def original_md17() -> Arrays:
    return {"coords": _walk(120, 3, 0), "nuclear_charges": np.tile([6, 6, 8], (120, 1))}


def mocap() -> Arrays:
    trials = {f"X0{i}": _walk(20, 4, i).astype(np.float32) for i in range(3)}
    splits = {f"split_{part}_case0{i}": np.asarray([0, 5, 9]) for i, part in enumerate(("train", "val", "test"))}
    return trials | splits | {"edges": np.asarray([[0, 1], [1, 2], [2, 3]], dtype=np.int16)}


FILES: dict[str, Callable[[], Arrays]] = {"nbody": nbody, "md17": md17, "original md17": original_md17, "mocap": mocap}
READ = {"nbody": {"positions", "velocities", "charges", "frames", "frame_interval", "split"},
        "md17": {"R", "z", "r_unit"}, "original md17": {"coords", "nuclear_charges"}, "mocap": set(mocap())}  # fmt: skip


def _first(values: np.ndarray, new: float) -> np.ndarray:
    changed = np.array(values, dtype=np.float64) if values.dtype.kind in "iuf" else np.full(values.shape, new)
    changed.reshape(-1)[:1] = new
    return changed


REFUSED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "objects": lambda values: np.array(values, dtype=object),
    "complex": lambda values: np.ones(values.shape, dtype=complex),
    "booleans": lambda values: np.ones(values.shape, dtype=bool),
    "dates": lambda values: np.zeros(values.shape, dtype="datetime64[s]"),
    "records": lambda values: np.zeros(values.shape, dtype=[("a", float), ("b", int)]),
    "empty": lambda values: np.zeros((0, *values.shape[1:])),
    "empty to the right": lambda values: np.zeros((*values.shape[:-1], 0)),
    "two": lambda values: np.stack([values, values]),
    "two words": lambda values: np.asarray(["Angstrom", "Angstrom"]),
    "nested": lambda values: np.stack([values, values])[:, None],
    "text": lambda values: np.full(values.shape, "one"),
    "bytes": lambda values: np.full(values.shape, b"\xff1"),
}
"""Damage that is invalid for every array."""

STRANGE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flat": lambda values: values.reshape(-1),
    "scalar": lambda values: values.reshape(-1)[0],
    "first row": lambda values: values if values.ndim == 0 else values[0],
    "half": lambda values: values if values.ndim == 0 else values[: len(values) // 2],
    "transposed": lambda values: values.T,
    "zeros": lambda values: np.zeros(values.shape),
    "NaN": lambda values: _first(values, np.nan),
    "infinite": lambda values: _first(values, np.inf),
    "huge": lambda values: _first(values, 1e300),
    "negative": lambda values: _first(values, -3.0),
    "broken": lambda values: _first(values, 1.5),
    "large": lambda values: _first(values, 1e6),
    "unsigned": lambda values: np.full(values.shape, 2**64 - 1, dtype=np.uint64),
    "halves": lambda values: values.astype(np.float16) if values.dtype.kind in "iuf" else values,
}
"""Damage that is invalid for some arrays."""


def can_be(key: str, damage: str) -> bool:
    """Whether a change is valid for this array, such as another unit or a trial without pairs."""
    return (key == "r_unit" and damage in ("text", "bytes")) or (
        key.startswith("split_") and damage.startswith("empty")
    )


def attempt(path: Path, **how: object) -> str | None:
    """Return the error of `read_motion` for a file; None if it can be read."""
    found = []
    for part, neighbors in (("train", None), ("test", None), (None, 1)):
        try:
            samples = read_motion(path, part=part, horizon=HORIZON, neighbors=neighbors, **how)
        except DatasetError as error:
            found.append(str(error))
        else:
            assert samples
            assert all(np.isfinite(sample.positions).all() for sample in samples)
    for message in found:
        assert str(path) in message
        assert "\n" not in message
        assert "pickle" not in message
        assert len(message) < 600
    return found[0] if found else None


@pytest.mark.parametrize("name", FILES)
def test_sound_files_are_read(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "sound.npz", **FILES[name]())
    assert attempt(tmp_path / "sound.npz") is None


@pytest.mark.parametrize("damage", [*REFUSED, *STRANGE, "lacking"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_array_is_one_clear_error_or_a_sound_reading(tmp_path: Path, name: str, damage: str) -> None:
    arrays, path = FILES[name](), tmp_path / "damaged.npz"
    for key, values in arrays.items():
        if damage == "lacking":
            np.savez(path, **{other: array for other, array in arrays.items() if other != key})
        else:
            np.savez(path, **(arrays | {key: (REFUSED | STRANGE)[damage](values)}))
        message = attempt(path)
        if key not in READ[name]:
            assert message is None
        elif damage in REFUSED and not can_be(key, damage):
            assert message is not None, key
            assert f"'{key}' " in message
            assert "write the file again" in message
        elif damage in ("NaN", "infinite"):
            assert message is not None, key
            assert "not finite" in message or f"'{key}' " in message


@pytest.mark.parametrize(
    ("name", "key", "values", "said"),
    [
        ("md17", "R", np.zeros((5, 0, 3)), r"'R' has shape \[5, 0, 3\], expected \[n_frames, n_atoms, 3\] of n"),
        ("md17", "z", np.asarray([6, -6, 8, 1]), r"'z' holds -6 for atom 1, expected atomic numbers from 1 to 118"),
        (
            "md17",
            "z",
            np.asarray([6, 6.5, 8, 1]),
            r"'z' of shape \[4\] and dtype float64 holds 6.5 at \[1\], expected w",
        ),
        (
            "md17",
            "z",
            np.asarray(["C", "C", "O", "H"]),
            r"'z' has dtype <U1, expected whole numbers \(its shape is \[4\]\)",
        ),
        ("md17", "r_unit", np.asarray(["A", "A"]), r"'r_unit' has shape \[2\] and dtype <U1, expected one word"),
        ("md17", "r_unit", np.asarray(1.0), r"'r_unit' has shape \[\] and dtype float64, expected one word"),
        (
            "mocap",
            "split_train_case00",
            np.ones((2, 3), dtype=int),
            r"'split_train_case00' has shape \[2, 3\], expected \[",
        ),
        ("mocap", "edges", np.asarray([[0, 1], [1, 9]]), r"trial X0. has 4 joints, and bone 1 connects joint 9"),
        ("mocap", "edges", np.asarray([[0, 1], [-1, 2]]), r"trial X0. has 4 joints, and bone 1 connects joint -1"),
        (
            "mocap",
            "edges",
            np.asarray([[0, 1], [2, 2]]),
            r"trial X0.: bone 1 connects joint 2 with itself; take this bone",
        ),
        (
            "mocap",
            "edges",
            np.asarray([[0, 1, 2]]),
            r"'edges' has shape \[1, 3\], expected \[n_bones, 2\] of whole numbers",
        ),
        ("nbody", "frame_interval", np.asarray([1.0, 2.0]), r"'frame_interval' has shape \[2\], expected \[1\]"),
        ("nbody", "frame_interval", np.asarray(-0.1), r"'frame_interval' is -0.1, expected a time above 0"),
        ("nbody", "positions", np.full((5, 2, 3, 3), "here"), r"'positions' has dtype <U4, expected numbers \(its"),
        (
            "nbody",
            "charges",
            np.full((5, 3), np.nan),
            r"'charges' of shape \[5, 3\] and dtype float64 holds nan at \[0",
        ),
    ],
)
def test_errors_name_the_content_and_the_expectation(
    tmp_path: Path, name: str, key: str, values: np.ndarray, said: str
) -> None:
    path = tmp_path / "damaged.npz"
    np.savez(path, **(FILES[name]() | {key: values}))
    with pytest.raises(DatasetError, match=said):
        read_motion(path, part="train", horizon=HORIZON)


def test_an_edge_from_a_body_to_itself_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "sound.npz", **nbody())
    sample = read_motion(tmp_path / "sound.npz", part="train", horizon=HORIZON)[0]
    edges = sample.edges.copy()
    edges[1, 4] = edges[0, 4]
    looped = replace(sample, edges=edges)
    with pytest.raises(DatasetError, match=r"trajectory 0, frames 30 and 34, edge 4: it connects body 2 with itself"):
        check_sample(looped)
    with pytest.raises(StructureError, match=r"edge 4: it connects particle 2 with itself; take this edge out"):
        motion_graph(looped)


def test_whole_numbers_may_be_floats(tmp_path: Path) -> None:
    path = tmp_path / "floats.npz"
    np.savez(path, **(md17() | {"z": np.asarray([6.0, 6.0, 8.0, 1.0])}))
    assert read_motion(path, part="train", horizon=HORIZON)[0].kinds.tolist() == [6, 6, 8]


def _write_npy(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


def _write_torn(path: Path) -> None:
    """Write an archive with an intact table of contents and a damaged first array."""
    np.savez_compressed(path, **nbody())
    whole = bytearray(path.read_bytes())
    whole[200:400] = bytes(200)
    path.write_bytes(whole)


def _write_huge(path: Path, n: int) -> None:
    """Write an archive with an array whose header declares `n` rows."""
    arrays = nbody()
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in arrays.items():
            header = {"descr": "<f8", "fortran_order": False, "shape": (n, 4) if key == "positions" else value.shape}
            with archive.open(f"{key}.npy", "w") as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                stream.write(np.asarray(value, dtype=float).tobytes() if value.dtype.kind in "fiu" else bytes(8))


WRONG_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "npy": (_write_npy, r"is a single array \(.npy\), but an npz archive"),
    "text": (lambda path: path.write_text("1 2 3\n4 5 6\n"), r"it begins with b'1 2 3\\n', but archives"),
    "nothing": (lambda path: path.write_bytes(b""), "it is empty, but archives"),
    "zip header alone": (lambda path: path.write_bytes(b"PK\x03\x04"), "is it complete"),
    "huge": (lambda path: _write_huge(path, 10**12), "cannot be read"),
    "larger than any number": (lambda path: _write_huge(path, 10**20), "cannot be read"),
    "torn": (_write_torn, "cannot be read .*is the file complete"),
}


@pytest.mark.parametrize("format", [None, "nbody", "md17", "mocap", "asf_amc"])
@pytest.mark.parametrize("name", WRONG_FILES)
def test_files_that_are_no_archives(tmp_path: Path, name: str, format: str | None) -> None:
    path = tmp_path / "wrong.npz"
    WRONG_FILES[name][0](path)
    message = attempt(path, format=format)
    assert message is not None
    if format is None:
        with pytest.raises(DatasetError, match=WRONG_FILES[name][1]):
            read_motion(path, part="train")


@pytest.mark.parametrize("format", ["nbody", "md17", "mocap", "asf_amc"])
@pytest.mark.parametrize("name", FILES)
def test_a_format_that_a_file_does_not_have(tmp_path: Path, name: str, format: str) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, **FILES[name]())
    assert (attempt(path, format=format) is None) == name.endswith(format)


ASF = """:version 1.10
:name arm
:units
  length 0.45
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     name upper
     direction 0 1 0
     length 2.0
     axis 0 0 0  XYZ
     dof rx rz
  end
  begin
     name lower
     direction 0 1 0
     length 1.0
     axis 0 0 90  XYZ
  end
:hierarchy
  begin
    root upper
    upper lower
  end
"""


def _damages(text: str) -> list[str]:
    """Yield the text with one line damaged in different ways."""
    lines, found = text.splitlines(), []
    for place, line in enumerate(lines):
        words = line.split()
        changed = [[], [words[0]], words[1:], [*words, "1"], [*words, *words], [words[0], *["x"] * (len(words) - 1)]]
        changed += [[*words[:-1], word] for word in ("nan", "1e999", "1e300", "-1", "\x00", "\ufffd", ":")]
        found += ["\n".join([*lines[:place], " ".join(new), *lines[place + 1 :]]) for new in changed]
        found += ["\n".join(lines[:place])]
    return found


@pytest.mark.parametrize("broken", [".asf", ".amc"])
def test_a_damaged_skeleton_or_motion_is_one_clear_error_or_a_sound_reading(tmp_path: Path, broken: str) -> None:
    motion = ":FULLY-SPECIFIED\n:DEGREES\n" + "".join(f"{t}\nroot 0 {t} 0 0 0 0\nupper {t} 0\n" for t in range(1, 9))
    folder = tmp_path / "arm"
    folder.mkdir()
    (folder / "arm.asf").write_text(ASF)
    for trial in range(3):
        (folder / f"arm_{trial}.amc").write_text(motion)
    assert attempt(folder) is None
    said = set()
    for text in _damages(ASF if broken == ".asf" else motion):
        (folder / ("arm.asf" if broken == ".asf" else "arm_1.amc")).write_text(text, encoding="utf-8")
        said.add(attempt(folder))
    assert None in said
    assert len(said) > 10


@pytest.mark.parametrize("name", FILES)
def test_the_command_gives_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    config = {"backbone": RECIPE["propagator"]["backbone"], "kinds": [1]}
    build_propagator(config, seed=0).save(str(tmp_path / "P"))
    recipe, arrays, app = tmp_path / "recipe.yaml", FILES[name](), build_app()
    damaged = {key: (key, REFUSED["two" if number % 2 else "objects"]) for number, key in enumerate(sorted(READ[name]))}
    for title, (key, damage) in damaged.items():
        path = tmp_path / f"{title}.npz"
        np.savez(path, **(arrays | {key: damage(arrays[key])}))
        recipe.write_text(yaml.safe_dump(RECIPE | {"data": {"file": str(path), "horizon": HORIZON}}))
        commands = [
            ["eval", str(tmp_path / "P"), str(path), "--horizon", str(HORIZON)],
            ["train", str(recipe), "--output", str(tmp_path / "run"), "--quiet"],
        ]
        for words in commands:
            assert run_cli(app, words) == 1
            shown = capsys.readouterr()
            assert shown.out == ""
            assert shown.err.startswith("mlff: error: ")
            assert str(path) in shown.err
            assert "foreseen" not in shown.err
            assert shown.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
