"""Folders of studies, whose results are kept and not made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlff_calc.errors import BenchmarkError
from mlff_calc.whole_files import write_whole


def keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write how the results of a folder are made, once.

    Raises:
        BenchmarkError: The folder holds results that were made in another way.
    """
    kept = folder / "settings.json"
    if kept.is_file() and json.loads(kept.read_text()) != settings:
        raise BenchmarkError(
            f"{folder} holds results with {kept.read_text()}, and now {json.dumps(settings)} is asked for; choose another "
            "--output"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(kept, json.dumps(settings))


def kept_result(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read the result that a file keeps; make and write it where there is none, or it is damaged."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        found = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(found))
    return found
