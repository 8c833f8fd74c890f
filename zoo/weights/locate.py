"""From the name of a checkpoint to a file or directory on this machine, verified where a hash is known."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from zoo.weights.download import download, hash_of, verify
from zoo.weights.errors import CheckpointError
from zoo.weights.offline import find

_FILE = r"[\w][\w.-]*\.(?:safetensors|npz)"
_HUB = re.compile(rf"hf://(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*?))?(?:/(?P<file>{_FILE}))?")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt")
_HUB_SETTINGS = ("config.json", "preprocessor_config.json", *TOKENIZER)
_HUB_WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def locate(uri: str | Path, *, sha256: str = "") -> Path:
    """The local file or directory behind a URI; downloads it if that is needed and allowed.

    "hf://org/repo", "hf://org/repo@revision", "hf://org/repo/file.safetensors"; "https://...#sha256=...";
    "bundled://file" inside the package; else a local path. What a bundle named by ZOO_WEIGHTS holds is taken
    from there. With HF_HUB_OFFLINE=1 no socket is opened: what is not in a bundle or a cache is an error. The hash
    is that of the file, or of model.safetensors in a directory.

    Raises:
        FileNotFoundError: it is not there, or not in the cache while offline.
        CheckpointError: the URI is malformed, or the file's hash is another than the given one.
    """
    text = str(uri)
    kept = find(text) if text.startswith("hf://") else None
    if text.startswith("https://"):
        return _from_web(text, sha256)
    if kept is not None:
        path = kept
    elif text.startswith("hf://"):
        path = _from_hub(text)
    elif text.startswith("bundled://"):
        path = Path(str(resources.files("zoo.weights") / "bundled" / Path(text).name))
    elif "://" in text:
        raise CheckpointError(f"{text!r}: known are hf://, https:// with its sha256, keras:// and local paths.")
    else:
        path = Path(os.path.expanduser(text))
    if not text or not os.path.exists(path):
        raise FileNotFoundError(f"There is no checkpoint at {text!r}.")
    if sha256:
        verify(path / "model.safetensors" if path.is_dir() else path, sha256)
    return path


def offline() -> bool:
    """Whether the user forbids the network, by the variable that the Hub's own client reads."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _from_hub(uri: str) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of its HTTP client

    match = _HUB.fullmatch(uri)
    if not match or ".." in uri:
        raise CheckpointError(f"{uri[:200]!r} is not of the form hf://org/repo[@revision][/file.safetensors].")
    wanted = (match["file"],) if match["file"] else _HUB_WEIGHTS
    try:
        folder = huggingface_hub.snapshot_download(
            match["repo"],
            revision=match["revision"],
            allow_patterns=[*_HUB_SETTINGS, *wanted],
            local_files_only=offline(),
        )
    except (OSError, ValueError, HTTPError) as error:
        how = "HF_HUB_OFFLINE=1 forbids to fetch it" if offline() else f"it could not be fetched ({error})"
        raise FileNotFoundError(
            f"{uri!r} is not in the cache, and {how}. Fetch it on a machine with network, and give the directory."
        ) from None
    return Path(folder, match["file"] or "")


def _from_web(uri: str, sha256: str) -> Path:
    address, _, fragment = uri.partition("#")
    expected = (sha256 or fragment.removeprefix("sha256=")).lower()
    if not _SHA256.fullmatch(expected):
        raise CheckpointError(
            f"{address!r} needs its hash, so that it is known to be the right file: {address}#sha256=..."
        )
    name = PurePosixPath(urlsplit(address).path).name
    if not re.fullmatch(_FILE, name):
        raise CheckpointError(f"{address!r} does not name a .safetensors or .npz file.")
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    target = home / "transferzoo" / expected[:16] / name
    if target.is_file() and hash_of(target) == expected:
        return target
    if offline():
        raise FileNotFoundError(f"{address!r} is not in the cache '{home}', and HF_HUB_OFFLINE=1 forbids to fetch it.")
    download(address, target, sha256=expected)
    return target
