"""Damage to archives and weights that random bytes would rarely cause, and files that try to run code."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from mutations import damage_tree, write_json


class Runs:
    """Object that creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def evil_pickle(marker: Path) -> bytes:
    """Return a pickle that creates the marker when it is read."""
    return pickle.dumps(Runs(marker))


def evil_checkpoint(marker: Path) -> bytes:
    """Return a file of torch.save that creates the marker when it is unpickled without precautions."""
    import torch

    buffer = io.BytesIO()
    torch.save({"state_dict": Runs(marker), "callbacks": {}, "epoch": 1}, buffer)
    return buffer.getvalue()


def damage_arrays(arrays: dict[str, np.ndarray], generator: random.Random, marker: Path) -> bytes:
    """Return an npz archive with missing or exchanged arrays, or arrays with wrong headers."""
    arrays = dict(arrays)
    for _ in range(generator.choice([1, 1, 2])):
        key = generator.choice(sorted(arrays))
        changed = _array(np.asarray(arrays[key]), generator, marker)
        if changed is None:
            del arrays[key]
            arrays = arrays or {"x": np.zeros(1)}
        else:
            arrays[key] = changed
    buffer = io.BytesIO()
    (np.savez_compressed if generator.random() < 0.3 else np.savez)(buffer, **arrays)
    if generator.random() < 0.35:
        return _lying(arrays, generator)
    return buffer.getvalue()


def _array(values: np.ndarray, generator: random.Random, marker: Path) -> np.ndarray | None:
    number = generator.choice([np.nan, np.inf, -1.0, 0.0, 1e300, 1.5, 1e6, 119.0, -1e-300])
    how = generator.randrange(16)
    if how < 3 and values.dtype.kind in "fiu" and values.size:
        changed = values.astype(np.float64)
        changed.reshape(-1)[generator.randrange(values.size)] = number
        return changed
    options: list[Any] = [
        None, np.full(values.shape, number), values.reshape(-1), values.T, values[None], np.zeros((0, *values.shape[1:])),
        np.asarray(["Angstrom"] * 2), values.astype(str), values.astype(bytes), np.zeros(values.shape, complex),
        np.zeros(values.shape, "datetime64[s]"), np.ones(values.shape, bool), np.zeros(values.shape, [("a", float)]),
        np.asarray([Runs(marker)], dtype=object), np.full(values.shape, 2**64 - 1, np.uint64), np.asarray("x" * 1000),
        values[: len(values) // 2] if values.ndim else values[None], np.asarray("kcal/mol"), np.asarray(None, dtype=object),
    ]  # fmt: skip
    return generator.choice(options)


def _lying(arrays: dict[str, np.ndarray], generator: random.Random) -> bytes:
    """Return an archive whose arrays declare wrong shapes and dtypes, or whose table declares wrong sizes."""
    buffer = io.BytesIO()
    liar = generator.choice(sorted(arrays))
    compression = generator.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for key, values in arrays.items():
            shape: Any = values.shape
            descr: Any = np.lib.format.dtype_to_descr(values.dtype)
            if key == liar:
                n = generator.choice([10**7, 10**10, 10**12, 10**20, -1, 0, 2**31])
                shape = generator.choice([(n,), (n, *values.shape[1:]), (n, n), values.shape, (1,) * 70])
                descr = generator.choice([descr, "<f8", "|O", "<U1000000000", "|S0", "<c16", "|V100000000", "x", "<f9"])
            content = io.BytesIO()
            np.lib.format.write_array_header_1_0(content, {"descr": descr, "fortran_order": False, "shape": shape})
            blob = content.getvalue() + (b"" if values.dtype.hasobject else values.tobytes())
            if key == liar and generator.random() < 0.3:
                blob += bytes(generator.choice([10**6, 3 * 10**7]))  # decompresses to a thousand times its size
            archive.writestr(f"{key}.npy", blob)
    data = bytearray(buffer.getvalue())
    if generator.random() < 0.3:
        _lie_in_table(data, generator)
    return bytes(data)


def _lie_in_table(data: bytearray, generator: random.Random) -> None:
    """Change a size, method, flag or checksum in the table of contents."""
    at = data.find(b"PK\x01\x02")
    if at >= 0:
        offset, size = generator.choice([(24, 4), (20, 4), (10, 2), (8, 2), (16, 4), (42, 4), (28, 2)])
        value = generator.choice([0, 1, 9, 12, 99, 2**15, 2**31, 2**32 - 1]) % 256**size
        data[at + offset : at + offset + size] = value.to_bytes(size, "little")


def split_weights(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the table of a safetensors file and its bytes."""
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def join_weights(table: Any, body: bytes) -> bytes:
    """Join the parts returned by `split_weights`."""
    text = write_json(table).encode()
    return struct.pack("<Q", len(text)) + text + body


def damage_table(content: bytes, generator: random.Random) -> bytes:
    """Return a safetensors file with a damaged table of tensors."""
    table, body = split_weights(content)
    if generator.random() < 0.2:
        table["huge"] = {"dtype": "F32", "shape": [10**generator.randrange(1, 20)], "data_offsets": [0, len(body)]}
    return join_weights(damage_tree(table, generator), body)


def damage_header(content: bytes, generator: random.Random, sign: Any) -> bytes:
    """Return a weights file with a damaged header of this package, often with a matching checksum."""
    table, body = split_weights(content)
    header = damage_tree(json.loads(table["__metadata__"]["mlff_calc"]), generator)
    if generator.random() < 0.8 and isinstance(header, dict):
        header = sign(content, header)
    table["__metadata__"]["mlff_calc"] = write_json(header)
    return join_weights(table, body)


def damage_members(content: bytes, generator: random.Random) -> bytes:
    """Return a zip archive with a changed, missing, added or duplicate member, or a damaged record (JSON)."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    at = generator.randrange(len(members))
    how = generator.randrange(6)
    records = [place for place, (info, _) in enumerate(members) if info.filename.endswith("mlff.json")]
    if how <= 2 and records:
        info, text = members[records[0]]
        members[records[0]] = (info, write_json(damage_tree(json.loads(text), generator)).encode())
    elif how == 3:
        del members[at]
    elif how == 4:
        info, text = members[at]
        top = info.filename.split("/")[0]
        name = generator.choice([f"{top}/new", f"{top}/../x", "/etc/x", info.filename, f"{top}/data.pkl", "", "x" * 5000])
        members.append((zipfile.ZipInfo(name), generator.choice([b"", b"x", text, bytes(10**6)])))
    else:
        info, text = members[at]
        members[at] = (info, bytes(generator.randrange(1000)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, text in members:
            archive.writestr(info, text)
    return buffer.getvalue()
