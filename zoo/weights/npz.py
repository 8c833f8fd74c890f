"""Arrays of an npz file; what a header promises is checked against the file before memory is taken for it."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoo.weights.layouts import Shape

DAMAGE = (  # all that zipfile and numpy raise for a damaged file, found by damaging many
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
)
_END = b"PK\x05\x06"
_END_SIZE = 22  # bytes of a zip's last record, which a comment would lengthen; numpy writes none
_LARGEST_RATIO = 100  # of a member's size to its compressed size; weights hardly compress
_MOST_MEMBERS = 100_000


def open_npz(path: Path) -> tuple[dict[str, Shape], Callable[[str], np.ndarray]]:
    """The shape of every array by name, and what reads one.

    Both raise one of DAMAGE where the file is not whole or holds more than plain arrays.
    """
    archive = zipfile.ZipFile(path)
    members = archive.infolist()
    names = {member.filename for member in members}
    if len(members) > _MOST_MEMBERS or len(names) < len(members):
        raise ValueError(f"it has {len(members):,} members, too many or some by the same name")
    _check_end(path)
    shapes = {member.filename.removesuffix(".npy"): _shape(archive, member) for member in members}

    def load(name: str) -> np.ndarray:
        with archive.open(f"{name}.npy") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    return shapes, load


def _check_end(path: Path) -> None:
    """Refuse bytes after the archive: they are not numpy's, and zipfile overlooks them."""
    with path.open("rb") as stream:
        stream.seek(-_END_SIZE, 2)
        if stream.read(4) != _END:
            raise ValueError("there are bytes after its end")


def _shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Shape:
    name = member.filename[:200]
    if not member.filename.endswith(".npy"):
        raise ValueError(f"{name!r} is no array")
    if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} is encrypted, or compressed in a way that numpy does not write")
    if member.file_size > _LARGEST_RATIO * max(member.compress_size, 2**16):
        raise ValueError(f"{name!r} would unpack to {member.file_size:,} bytes from {member.compress_size:,}")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        begin = stream.tell()
    if dtype.hasobject:
        raise ValueError(f"{name!r} holds Python objects, that is, a pickle")
    promised = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if min(shape, default=0) < 0 or begin + promised != member.file_size:
        raise ValueError(f"{name!r} promises the shape {shape} in {member.file_size:,} bytes")
    return shape
