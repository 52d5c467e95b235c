"""Files are complete or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlff_calc.whole_files import leftovers, replacing, write_whole


@pytest.mark.parametrize("content", ["wörds", "wörds".encode(), [b"w", "örds".encode()]])
@pytest.mark.parametrize("sync", [True, False])
def test_content_of_every_kind(tmp_path: Path, content: object, sync: bool) -> None:
    (tmp_path / "file").write_text("something longer that was there")
    write_whole(tmp_path / "file", content, sync=sync)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "wörds"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def broken() -> Iterator[bytes]:
    yield b"half"
    raise OSError(errno.EIO, "Input/output error")


def test_an_error_names_the_file_and_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="Input/output error") as caught:
        write_whole(path, broken())
    assert caught.value.filename == str(path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "file") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not list(tmp_path.iterdir())


def test_leftovers_are_those_of_the_names(tmp_path: Path) -> None:
    for name in (".a.json.12.tmp", ".b.ckpt.3.tmp", ".mine.1.tmp", "a.json", "a.json.12.tmp"):
        (tmp_path / name).touch()
    assert {path.name for path in leftovers(tmp_path, ["a.json", "*.ckpt"])} == {".a.json.12.tmp", ".b.ckpt.3.tmp"}
