"""What open_tensors reads, and what it refuses with one clear error and without taking memory."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.weights.files import entry, safetensors_bytes
from zoo.weights.errors import CheckpointError
from zoo.weights.read import open_tensors, read_json

SIX = np.arange(6, dtype="float32")
ONE = {"a": entry("F32", [6], 0, 24)}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def npz_bytes(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npy_in_zip(header: dict[str, object], data: bytes, *, name: str = "a.npy") -> bytes:
    """An npz with one member whose header says what it likes."""
    member, stream = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, member.getvalue() + data)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("F16", np.array([1, -2.5, 65504], "<f2").tobytes()),
        ("F32", np.array([1, -2.5, 65504], "<f4").tobytes()),
        ("F64", np.array([1, -2.5, 65504], "<f8").tobytes()),
        ("BF16", bytes.fromhex("803f 20c0 8047".replace(" ", ""))),  # 65536: bfloat16 has no 65504
    ],
)
def test_floating_point_values_of_every_width(tmp_path, kind, data):
    path = write(tmp_path / "a.safetensors", safetensors_bytes({"a": entry(kind, [3], 0, len(data))}, data))
    expected = [1, -2.5, 65536 if kind == "BF16" else 65504]
    assert open_tensors(path)["a"].astype("float64").tolist() == expected


def test_npz_values_and_shapes_without_reading(tmp_path):
    tensors = open_tensors(write(tmp_path / "a.npz", npz_bytes(a=SIX.reshape(2, 3), b=np.float64(7))))
    assert tensors.shapes == {"a": (2, 3), "b": ()}
    assert tensors["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and tensors["b"] == 7


def test_a_file_of_no_tensors_and_a_tensor_of_no_numbers(tmp_path):
    assert len(open_tensors(write(tmp_path / "none.safetensors", safetensors_bytes({})))) == 0
    hollow = open_tensors(write(tmp_path / "hollow.safetensors", safetensors_bytes({"a": entry("F32", [0, 3], 0, 0)})))
    assert hollow["a"].shape == (0, 3)


def test_a_name_that_is_not_there_is_a_key_error(tmp_path):
    tensors = open_tensors(write(tmp_path / "a.npz", npz_bytes(a=SIX)))
    assert "b" not in tensors
    with pytest.raises(KeyError):
        tensors["b"]


DAMAGED = {
    "cut off": ("a.safetensors", safetensors_bytes(ONE, SIX.tobytes())[:-1], "cut off"),
    "cut in the header": ("a.safetensors", safetensors_bytes(ONE)[:20], "cut off"),
    "bytes after the end": ("a.safetensors", safetensors_bytes(ONE, SIX.tobytes() + b"x"), "not fully covered"),
    "promises more": ("a.safetensors", safetensors_bytes({"a": entry("F32", [600], 0, 2400)}, b"x" * 24), "cut off"),
    "promises a terabyte": ("a.safetensors", safetensors_bytes({"a": entry("F32", [2**38], 0, 2**40)}), "cut off"),
    "shape is not size": (
        "a.safetensors",
        safetensors_bytes({"a": entry("F32", [7], 0, 24)}, b"x" * 24),
        "not a whole",
    ),
    "negative shape": ("a.safetensors", safetensors_bytes({"a": entry("F32", [-6], 0, 24)}, b"x" * 24), "-6"),
    "shape overflows": ("a.safetensors", safetensors_bytes({"a": entry("F32", [2**63, 4], 0, 0)}), "not a whole"),
    "overlapping": (
        "a.safetensors",
        safetensors_bytes({"a": entry("F32", [6], 0, 24), "b": entry("F32", [6], 12, 36)}, b"x" * 36),
        "not a whole",
    ),
    "unknown kind": ("a.safetensors", safetensors_bytes({"a": entry("F99", [6], 0, 24)}, b"x" * 24), "F99"),
    "header of 8 exabytes": ("a.safetensors", b"\xff" * 7 + b"\x7f{}", "not a whole"),
    "nested header": ("a.safetensors", safetensors_bytes(b'{"a":' + b"[" * 100_000), "not a whole"),
    "empty": ("a.safetensors", b"", "not a whole"),
    "pickle": ("a.safetensors", pickle.dumps({"a": SIX}), "it is a pickle"),
    "zip": ("a.safetensors", npz_bytes(a=SIX), "it is a zip archive"),
    "json": ("a.safetensors", b'{"error": "not found"}', "it is JSON"),
    "html": ("a.safetensors", b"\n<!DOCTYPE html><html></html>", "it is HTML"),
    "git lfs": ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "hdf5": ("a.safetensors", b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "it is an HDF5 file"),
    "safetensors as npz": ("a.npz", safetensors_bytes(ONE, SIX.tobytes()), "not a whole npz"),
    "npy as npz": ("a.npz", npz_bytes(a=SIX)[30:], "not a whole npz"),
    "npz cut off": ("a.npz", npz_bytes(a=SIX)[:-30], "not a whole npz"),
    "npz and more": ("a.npz", npz_bytes(a=SIX) + b"more", "bytes after its end"),
    "npz empty": ("a.npz", b"", "not a whole npz"),
    "npz of objects": ("a.npz", npz_bytes(a=np.array([{"x": 1}, None], dtype=object)), "Python objects"),
    "npz promises more": (
        "a.npz",
        npy_in_zip({"descr": "<f4", "fortran_order": False, "shape": (10**12,)}, b"x" * 24),
        "promises the shape",
    ),
    "npz negative shape": (
        "a.npz",
        npy_in_zip({"descr": "<f4", "fortran_order": False, "shape": (-2, -3)}, b"x" * 24),
        "promises the shape",
    ),
    "npz with a text": (
        "a.npz",
        npy_in_zip({"descr": "<f4", "fortran_order": False, "shape": ()}, b"xxxx", name="a.txt"),
        "no array",
    ),
    "pytorch": ("pytorch_model.bin", pickle.dumps({}), "never opened"),
    "keras": ("model.keras", npz_bytes(a=SIX), "weights=model"),
    "of no kind": ("weights.dat", b"x", "no kind"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_or_misnamed_file_is_one_clear_error(tmp_path, case):
    name, data, words = DAMAGED[case]
    with pytest.raises(CheckpointError) as error:
        open_tensors(write(tmp_path / name, data))
    assert words in str(error.value) and name in str(error.value) and len(str(error.value)) < 600


def test_a_bomb_is_refused_without_unpacking_it(tmp_path):
    bomb = npy_in_zip({"descr": "<f4", "fortran_order": False, "shape": (50_000_000,)}, bytes(200_000_000))
    path = write(tmp_path / "a.npz", bomb)
    assert len(bomb) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="would unpack to 200,000,1"):
            open_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.npy", b"1")
        archive.writestr("a.npy", b"2")
    with pytest.raises(CheckpointError, match="same name"):
        open_tensors(tmp_path / "a.npz")


def test_an_8_bit_float_is_refused_when_it_is_read(tmp_path):
    data = safetensors_bytes({"a": entry("F8_E4M3", [2], 0, 2)}, b"xx")
    with pytest.raises(CheckpointError, match="'a' is of a kind that cannot be read"):
        open_tensors(write(tmp_path / "a.safetensors", data))["a"]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        open_tensors(tmp_path / "nothing.npz")
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        open_tensors(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 100_000, "not readable"),
        (b'{"a":' * 100_000, "not readable"),
        (b'{"a": 1', "not readable"),
        (b"", "not readable"),
        (b"\xff\xfe{", "not readable"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not readable"),
        (b"[1]", "JSON list"),
        (b'"text"', "JSON str"),
        (b" " * (16 * 2**20) + b"{}", "too many"),
    ],
)
def test_json_that_is_no_description(tmp_path, text, words):
    with pytest.raises(CheckpointError, match=words):
        read_json(write(tmp_path / "config.json", text))


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes with a few changed, cut off, doubled or put in."""
    damaged = bytearray(data)
    match random.integers(4):
        case 0:
            for place in random.integers(len(damaged), size=random.integers(1, 9)):
                damaged[place] ^= int(random.integers(1, 256))
        case 1:
            del damaged[random.integers(len(damaged)) :]
        case 2:
            place = random.integers(len(damaged))
            damaged[place:place] = random.bytes(int(random.integers(1, 99)))
        case 3:
            begin, end = sorted(random.integers(len(damaged), size=2))
            del damaged[begin:end]
    return bytes(damaged)


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_any_damage_is_a_checkpoint_error_or_harmless(tmp_path, suffix):
    whole = {
        "safetensors": safetensors_bytes(
            {"a": entry("F32", [6], 0, 24), "b": entry("BF16", [2, 6], 24, 48)}, bytes(48)
        ),
        "npz": npz_bytes(a=SIX, b=np.ones((2, 3), "float16")),
    }[suffix]
    random = np.random.default_rng(5)
    refused = 0
    for _ in range(1500):
        path = write(tmp_path / f"a.{suffix}", mutated(whole, random))
        try:
            tensors = open_tensors(path)
            assert sum(tensors[name].nbytes for name in tensors) <= path.stat().st_size
        except CheckpointError:
            refused += 1
    assert 500 < refused < 1500  # both ways were taken
