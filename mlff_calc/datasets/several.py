"""Reading several data files: patterns of names, short names for reports, and no frame twice."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlff_calc.datasets.lazy import marks_of
from mlff_calc.datasets.readers import existing_file
from mlff_calc.datasets.sample import Sample
from mlff_calc.errors import DatasetError


def matching_files(name: str, folder: str | os.PathLike[str] = ".") -> list[Path]:
    """Return the files that match a name or a pattern.

    Args:
        name: Path, or a pattern with ``*``, ``?``, ``[abc]`` or ``**`` (any folders between), read as in a shell: names
            that begin with a dot are skipped. An existing file of exactly this name comes first.
        folder: Folder of relative names; special characters in its own path are no pattern.

    Returns:
        One path for a name; all matches of a pattern, sorted by their parts.

    Raises:
        DatasetError: There is no such file (the message gives the nearest name), or nothing matches the pattern.
    """
    if "\0" in name:
        raise DatasetError(f"the path {name!r} holds a NUL character; correct it")
    literal = Path(folder) / name
    if not glob.has_magic(name) or literal.is_file():
        return [existing_file(literal)]
    parts = Path(name).parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root, pattern = Path(folder).joinpath(*parts[:first]), os.path.join(*parts[first:])  # noqa: PTH118 - a pattern
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}, in which {pattern!r} should match files; correct the path")
    found = [root / match for match in glob.glob(pattern, root_dir=root, recursive=True)]  # noqa: PTH207 - of a shell
    files = sorted({file for file in found if file.is_file()}, key=lambda file: file.parts)
    if not files:
        held = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
        listed = f"holds {', '.join(held[:5])}{', ...' if len(held) > 5 else ''}" if held else "is empty"
        raise DatasetError(f"no file matches {pattern!r} in the folder {root}, which {listed}; correct the pattern")
    return files


def short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Return for each path its name, with as many folders as needed to distinguish it from the others."""
    every = list(dict.fromkeys(paths))
    names: dict[Path, str] = {}
    for path in every:
        for length in range(1, len(path.parts) + 1):
            tail = path.parts[-length:]
            if not any(other != path and other.parts[-length:] == tail for other in every):
                break
        names[path] = str(Path(*tail)) if length < len(path.parts) else str(path)
    return names


def refuse_frames_twice(read: Sequence[tuple[Path, Sequence[Sample]]]) -> None:
    """Refuse frames that several entries name, also through links and copies, which count as the same file.

    Args:
        read: File and samples of each entry.

    Raises:
        DatasetError: A frame occurs twice; the message names both files and the frame.
    """
    sizes: dict[int, list[Path]] = {}
    for path, _ in read:
        sizes.setdefault(path.stat().st_size, []).append(path)
    contents = {path: _content(path) for same in sizes.values() if len(same) > 1 for path in same}
    seen: dict[tuple[object, str, int], Path] = {}
    for path, samples in read:
        own = {(contents.get(path, path), part, frame) for _, part, frame in marks_of(samples)}
        twice = own & seen.keys()
        if twice:
            key = min(twice, key=lambda found: found[2])
            same = "" if seen[key] == path else f" (the same file as {seen[key]})"
            raise DatasetError(
                f"frames of {path}{same} are named twice, {len(twice)} in all, the first is frame {key[2]}; leave one of "
                "the two out, or give each its own index"
            )
        seen |= dict.fromkeys(own, path)


def _content(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
