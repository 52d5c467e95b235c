"""The archive of an exported file: checks that its members are allowed and unchanged.

All checks are made on the same bytes that are opened afterwards, before any of them is run as code.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlff_calc.bounded import require_regular, shorten
from mlff_calc.errors import MLFFError, PotentialFileError

MOST_BYTES = 4 * 2**30
"""Largest size in bytes of a file and of its unpacked members. Raising it accepts files that take more memory."""
MOST_MEMBERS = 20_000
"""Largest number of members. Raising it accepts archives whose table takes longer to read."""
MOST_RECORD = 4 * 2**20
"""Largest size in bytes of the metadata. Raising it accepts records that take longer to parse."""
MOST_CODE = 64 * 2**20
"""Largest size in bytes of a member with TorchScript code, the only members that PyTorch compresses."""
RECORD_MEMBER = "extra/mlff.json"
_NAME = re.compile(r"[A-Za-z0-9_.\-+]+(/[A-Za-z0-9_.\-+]+)*")
CHUNK = 2**20  # bytes read and hashed at once; a larger value takes more memory


def read_content(path: Path) -> bytes:
    """Read all bytes of a file.

    Raises:
        PotentialFileError: the file does not exist, is not regular, is too large, or cannot be read.
    """
    try:
        require_regular(path, PotentialFileError, MOST_BYTES)
    except PotentialFileError as error:
        raise PotentialFileError(f"no exported potential {path}: {error}; `mlff export` writes one") from error
    try:
        return path.read_bytes()
    except OSError as error:
        raise PotentialFileError(f"{path} cannot be read ({error}); check its permissions") from error


def record_of(path: Path, content: bytes) -> bytes:
    """Read the record of an exported file, after checking the archive's list of members.

    Raises:
        PotentialFileError: the content is not an archive, has a member that exports do not have, or has no record.
    """
    with _opened(path, content) as (archive, members):
        found = members.get(RECORD_MEMBER)
        if found is None:
            raise PotentialFileError(
                f"{path} was not written by `mlff export`: it has no record {RECORD_MEMBER}; weights of a potential are "
                "a folder, and a training's checkpoint is not a potential: export one with `mlff export`"
            )
        if found.file_size > MOST_RECORD:
            raise PotentialFileError(f"{path}: its record has {found.file_size} bytes, and {MOST_RECORD} are allowed")
        return archive.read(found)


def digests_of(path: Path, content: bytes) -> dict[str, str]:
    """Compute the SHA-256 of every member except the record, by its name below the archive's top folder.

    Raises:
        PotentialFileError: see `record_of`.
    """
    with _opened(path, content) as (archive, members):
        return {name: _digest(archive, info) for name, info in members.items() if name != RECORD_MEMBER}


def check_members(path: Path, content: bytes, expected: dict[str, str], backend: str) -> None:
    """Compare the members with the checksums in the record, and with the backend that it names.

    Raises:
        PotentialFileError: a member is missing, was added or differs, or the members are those of another backend.
    """
    found = digests_of(path, content)
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        raise PotentialFileError(
            f"{path} is damaged or was changed: its member {wrong[0]} is not what was exported "
            f"({len(wrong)} of {len(expected)} differ); export it again"
        )
    check_backend(path, found, backend)


def check_backend(path: Path, members: dict[str, str], backend: str) -> None:
    """Check that the members are those of the backend in the record.

    Raises:
        PotentialFileError: the members are those of another backend or of none.
    """
    compiled = any(name.startswith("data/aotinductor/") for name in members)
    script = "data.pkl" in members and any(name.startswith("code/") for name in members)
    held = {(True, False): "aoti", (False, True): "torchscript"}.get((compiled, script), "neither")
    if held != backend:
        raise PotentialFileError(f"{path} claims to be {backend}, but its content is {held}; export it again")


@contextmanager
def _opened(path: Path, content: bytes) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open an archive, and return its members by their names below the top folder."""
    _refuse_weights(path, content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield archive, dict(_members(path, archive))
    except MLFFError:
        raise
    except _DAMAGED as error:
        raise PotentialFileError(
            f"{path} cannot be read ({error}); it is damaged or cut short: export it again"
        ) from error


_DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, NotImplementedError, ValueError, EOFError, RuntimeError,
    LookupError, OverflowError, MemoryError,
)  # fmt: skip


def _refuse_weights(path: Path, content: bytes) -> None:
    """Refuse weights, which are loaded in another way and need no trust."""
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") < len(content):
        raise PotentialFileError(
            f"{path} holds weights (safetensors), not an exported potential; name the folder that holds weights.safetensors "
            "instead, or export it with `mlff export`"
        )


def _members(path: Path, archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """Iterate over members after checking that there is one top folder, and plain names, each once and of limited size."""
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise PotentialFileError(f"{path} has {len(infos)} members, {MOST_MEMBERS} at most; it is not from `mlff export`")
    top = infos[0].filename.split("/")[0] if infos else ""
    seen: set[str] = set()
    total = 0
    for info in infos:
        first, _, name = info.filename.partition("/")
        trouble = None
        if first != top or not _NAME.fullmatch(name) or {".", ".."} & set(info.filename.split("/")):
            trouble = "has a name that no export has"
        elif name in seen:
            trouble = "is there twice"
        elif info.compress_type != zipfile.ZIP_STORED and not (name.startswith("code/") and info.file_size <= MOST_CODE):
            trouble = "is compressed"
        elif info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            trouble = "has two sizes"
        elif info.flag_bits & 1:
            trouble = "is encrypted"
        if trouble is not None:
            raise PotentialFileError(f"{path}: its member {shorten(info.filename)} {trouble}; export it again")
        seen.add(name)
        total += info.file_size
        if total > MOST_BYTES:
            raise PotentialFileError(f"{path} unpacks to more than {MOST_BYTES} bytes; it is not from `mlff export`")
        yield name, info


def _digest(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    digest = hashlib.sha256()
    with archive.open(info) as stream:
        while piece := stream.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()
