"""Random damage to bytes, text, JSON and arrays, all drawn from one generator."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEEP = "\x01deep\x01"
"""Placeholder for JSON nested 100,000 levels deep, which json.dumps cannot write."""
WORDS = [
    "nan", "inf", "-inf", "1e400", "-1", "0", "1", "100000000000", "9" * 400, "1.5", "", "\0", "x", "H", "Xx", "[]", "{}",
    "None", "true", "../../x", "1e-320", "\u00e4", "\ufeff", "'", '"',
    "#", ":", "-" * 50, "0x10", "1_000", "1,5", "=",
]  # fmt: skip


ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2, 7, 1.5, -0.0, 1e308, -1e308, 1e-320, 10**6, 10**9, 10**12, 10**30, -(10**30),
    float("nan"), float("inf"), float("-inf"), "", "x", "\0", "1", "nan", "x" * 10_000, [], [[]], [None], {}, {"": 0},
    {"x": {"y": []}}, [1.0] * 1000, [0, 1, 2], "../../etc/passwd", "/dev/zero", DEEP, ["H"], "H", [1, 1], [10**9],
    {"__ndarray__": [[10**10], "float64", []]}, {"__complex__": [1, 2]}, {"__ase_objtype__": "cell", "array": 1},
]  # fmt: skip


def values(generator: random.Random) -> Any:
    """Return a value that is unlikely to be valid."""
    return generator.choice(ODD)


def write_json(tree: Any) -> str:
    """Write JSON, including NaN and the placeholder for deep nesting."""
    text = json.dumps(tree)
    return text.replace(json.dumps(DEEP), "[" * 100_000 + "]" * 100_000)


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Return every container of a tree with each of its keys."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from places(value)


def damage_tree(tree: Any, generator: random.Random) -> Any:
    """Return a copy of plain data with one to three changed values."""
    tree = copy.deepcopy(tree)
    for _ in range(generator.choice([1, 1, 1, 2, 3])):
        found = list(places(tree))
        if not found:
            return values(generator)
        shallow = [place for place in found if place[0] is tree]
        owner, key = generator.choice(shallow if generator.random() < 0.3 else found)
        how = generator.randrange(8)
        if how == 0:
            del owner[key]
        elif how == 1 and isinstance(owner, dict):
            owner[generator.choice(["x", "", "__class__", str(key) + "_", "sha256"])] = values(generator)
        elif how == 2 and isinstance(owner[key], int | float) and not isinstance(owner[key], bool):
            factor = generator.choice([-1, 0.5, 2, 1000, 1e30])
            owner[key] = type(owner[key])(owner[key] * factor)
        elif how == 3:
            owner[key] = copy.deepcopy(generator.choice(found)[0])
        else:
            owner[key] = values(generator)
    return values(generator) if generator.random() < 0.02 else tree


def damage_bytes(content: bytes, generator: random.Random) -> bytes:
    """Return bytes that are flipped, truncated, inserted, removed or overwritten, mostly near the beginning and end."""
    data = bytearray(content)
    for _ in range(generator.choice([1, 1, 1, 2, 8])):
        n = len(data)
        if n == 0:
            return b"\0" * generator.randrange(100)
        zone = generator.choice([n, n, min(n, 64), min(n, 2000), -min(n, 64), -min(n, 2000)])
        at = generator.randrange(zone) if zone > 0 else n + zone + generator.randrange(-zone)
        size = generator.choice([1, 4, 8, 100, 5000])
        how = generator.randrange(7)
        if how <= 1:
            data[at] ^= 1 << generator.randrange(8)
        elif how == 2:
            del data[at:]
        elif how == 3:
            data[at:at] = generator.choice([b"\0", b"\xff", b"x", generator.randbytes(1)]) * size
        elif how == 4:
            del data[at : at + size]
        elif how == 5:
            data[at : at + size] = generator.choice([b"\0", b"\xff", b"9"]) * min(size, n - at)
        else:
            data[at:at] = data[at : at + size]
    return bytes(data)


def damage_text(text: str, generator: random.Random) -> bytes:
    """Return text with changed words or lines, or sometimes with damaged bytes."""
    if generator.random() < 0.25:
        return damage_bytes(text.encode(), generator)
    lines = text.split("\n")
    for _ in range(generator.choice([1, 1, 2, 4])):
        at = generator.randrange(min(len(lines), generator.choice([3, len(lines)])))
        how, words = generator.randrange(6), lines[at].split(" ")
        if how <= 2:
            full = [place for place, word in enumerate(words) if word] or [0]
            words[generator.choice(full)] = generator.choice(WORDS)
            lines[at] = " ".join(words)
        elif how == 3:
            del lines[at]
            lines = lines or [""]
        elif how == 4:
            lines.insert(at, generator.choice([lines[at], "", generator.choice(lines), " ".join(WORDS), "x" * 100_000]))
        else:
            lines[at] = lines[at][: generator.randrange(len(lines[at]) + 1)]
    return "\n".join(lines).encode("utf-8", errors="surrogatepass")


def special_file(path: Path, generator: random.Random) -> str:
    """Create something at a path that is no intact file, and return a description."""
    if path.is_dir():
        return "as it was"
    path.unlink(missing_ok=True)
    kind = generator.choice(["nothing", "empty", "pipe", "folder", "zeros", "link to nowhere", "link to itself"])
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "zeros":
        path.write_bytes(bytes(generator.choice([1, 100, 100_000])))
    elif kind == "link to nowhere":
        path.symlink_to(path.parent / "nowhere")
    elif kind == "link to itself":
        path.symlink_to(path)
    return kind
