"""Bounded reading: kinds of files, sizes, depth, and numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlff_calc.bounded import parse_json, read_text, require_regular
from mlff_calc.errors import DatasetError, MLFFError, RecipeError


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "is a pipe"),
        (tmp_path, "is a folder"),
        (Path("/dev/zero"), "is a device"),
        (tmp_path / "none", "No such file"),
        ("a\0b", "null"),
    ):
        with pytest.raises(DatasetError, match=words):
            require_regular(path, DatasetError)


def test_size_and_encoding(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes("für".encode())
    assert read_text(file, RecipeError, 4) == "für"
    with pytest.raises(RecipeError, match="has 4 bytes, but such a file has at most 3"):
        read_text(file, RecipeError, 3)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="cannot be read as text"):
        read_text(file, RecipeError)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested deeper than 100"),
        ('{"a":' * 100_000, "nested deeper than 100"),
        ("[" * 102 + "]" * 102, "nested deeper than 100"),
        ('{"a": NaN}', "holds NaN"),
        ("-Infinity", "holds -Infinity"),
        ("1e999", "too large"),
        ("9" * 5000, "4300"),
        ('{"a": ', "Expecting value"),
    ],
)
def test_json_with_bounds(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_json_within_bounds() -> None:
    assert parse_json('{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}
    assert parse_json("[" * 100 + "]" * 100)
    assert parse_json("Infinity", finite=False) == float("inf")


def test_errors_do_not_quote_without_end() -> None:
    short, long = MLFFError("a" * 2000), MLFFError("begin " + "x" * 10**6 + " end")
    assert str(short) == "a" * 2000
    assert len(str(long)) < 2000
    assert str(long).startswith("begin x")
    assert "characters left out" in str(long)
    assert str(long).endswith("x end")
