"""Fingerprints of data files: name, size and SHA-256, of one file or of several that are read together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def fingerprint(path: Path) -> dict[str, Any]:
    """Return name, size in bytes and SHA-256 of a data file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest}


def fingerprint_all(files: Sequence[Path], name: str) -> dict[str, Any]:
    """Fingerprint files that are read together: a single one as above, several as sums with the parts under `files`.

    Args:
        files: At least one file.
        name: Common name of the files.
    """
    found = [fingerprint(file) for file in files]
    if len(found) == 1:
        return found[0]
    digest = hashlib.sha256("\n".join(f"{one['file']} {one['sha256']}" for one in found).encode()).hexdigest()
    return {"file": name, "bytes": sum(one["bytes"] for one in found), "sha256": digest, "files": found}


def changed_files(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of files that were added, removed or changed; the common name where only their order changed."""
    if before.get("sha256") == now["sha256"]:
        return []
    old, new = (each.get("files", [each] if each else []) for each in (before, now))
    if len(new) == len(old) == 1:
        return [str(now["file"])]
    pairs = [[(one.get("file"), one.get("sha256")) for one in each] for each in (old, new)]
    changed = [name for name, digest in pairs[1] if (name, digest) not in pairs[0]]
    gone = [f"{name} (left out)" for name, _ in pairs[0] if name not in [other for other, _ in pairs[1]]]
    return list(dict.fromkeys(map(str, changed + gone))) or [f"the order of {now['file']}"]
