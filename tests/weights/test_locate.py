"""Where a checkpoint is found: the Hub's cache without a socket, downloads whole or not at all, strict addresses.

`download` is tried on a real local HTTP server. Only TLS itself is not: `locate` refuses every address that is not
https://, and a local server has no certificate that Python would trust.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.weights.download import download
from zoo.weights.errors import CheckpointError
from zoo.weights.locate import locate

CONTENT = b"weights " * 40_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REVISION = "0123456789abcdef0123456789abcdef01234567"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, where opening a socket is an error that names itself."""
    guard = """
        import socket, sys
        class NoSocket:
            def __init__(self, *args, **kwargs):
                sys.exit("a socket was opened")
        socket.socket = NoSocket
        socket.getaddrinfo = socket.create_connection = NoSocket
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(guard) + textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def hub(tmp_path) -> Path:
    """HF_HOME with one repository in the layout of the Hub's own client."""
    repository = tmp_path / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for folder in ("blobs", "refs"):
        (repository / folder).mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    save_file({"a": np.float32([1, 2])}, repository / "blobs" / "beef")
    (repository / "blobs" / "feed").write_text('{"architecture": "x"}')
    (snapshot / "model.safetensors").symlink_to("../../blobs/beef")
    (snapshot / "config.json").symlink_to("../../blobs/feed")
    return tmp_path


@pytest.mark.parametrize(
    "uri", ["hf://org/name", "hf://org/name@main", f"hf://org/name@{REVISION}", "hf://org/name/model.safetensors"]
)
def test_offline_the_cache_is_read_without_a_socket(hub, uri):
    code = f"""
        from zoo.weights.locate import locate
        from zoo.weights.read import open_tensors
        print(open_tensors(locate({uri!r}))["a"].tolist())
    """
    done = run(code, HF_HOME=str(hub), HF_HUB_OFFLINE="1")
    assert (done.stdout, done.returncode) == ("[1.0, 2.0]\n", 0), done.stderr


@pytest.mark.parametrize("uri", ["hf://org/other", "hf://org/name@v2", "https://example.com/a.npz#sha256=" + SHA256])
def test_offline_what_is_not_cached_is_an_error_without_a_socket(hub, uri):
    code = f"""
        from zoo.weights.locate import locate
        try:
            locate({uri!r})
        except FileNotFoundError as error:
            print(error)
    """
    done = run(code, HF_HOME=str(hub), KERAS_HOME=str(hub), HF_HUB_OFFLINE="1")
    assert "is not in the cache" in done.stdout and "HF_HUB_OFFLINE=1 forbids" in done.stdout, done.stderr


def test_the_guard_of_these_tests_sees_a_socket(hub):
    done = run("import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')")
    assert "a socket was opened" in done.stderr


def test_a_link_of_the_cache_that_leads_elsewhere_is_refused(hub):
    secret = hub / "secret"
    save_file({"a": np.float32([1])}, secret)
    model = hub / "hub" / "models--org--name" / "snapshots" / REVISION / "model.safetensors"
    model.unlink()
    model.symlink_to(secret)
    code = """
        from zoo.weights.locate import locate
        from zoo.weights.read import open_tensors
        open_tensors(locate("hf://org/name"))
    """
    done = run(code, HF_HOME=str(hub), HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "CheckpointError" in done.stderr and "link out of its directory" in done.stderr


@pytest.mark.parametrize(
    "uri",
    [
        "hf://",
        "hf://name",
        "hf://org/../name",
        "hf://../name",
        "hf://org/name@../../x",
        "hf://org/name@/etc",
        "hf://org/name/../x.safetensors",
        "hf://org/name/sub/x.safetensors",
        "hf://org/name/x.bin",
        "hf://org/name\n",
        "hf://org/na\0me",
        "hf://org/name?x",
        "http://example.com/a.npz",
        "s3://bucket/a.npz",
        "file:///a.npz",
    ],
)
def test_an_address_of_another_form_is_refused(uri):
    with pytest.raises(CheckpointError, match=r"is not of the form|known are"):
        locate(uri)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("https://example.com/a.npz", "needs its hash"),
        ("https://example.com/a.npz#sha256=123", "needs its hash"),
        ("https://example.com/a.npz#md5=" + SHA256, "needs its hash"),
        (f"https://example.com/#sha256={SHA256}", "does not name"),
        (f"https://example.com/..#sha256={SHA256}", "does not name"),
        (f"https://example.com/a.zip#sha256={SHA256}", "does not name"),
    ],
)
def test_a_url_needs_its_hash_and_a_file_name(uri, words):
    with pytest.raises(CheckpointError, match=words):
        locate(uri)


@pytest.mark.parametrize(
    "path", ["", "nothing.npz", "no/such/folder", "x\0y", "x" * 5000, "~nobody-of-that-name/x.npz"]
)
def test_a_path_that_is_not_there(path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        locate(path)


def test_a_local_file_and_its_hash(tmp_path):
    file = tmp_path / "a.npz"
    file.write_bytes(CONTENT)
    assert locate(file) == locate(str(file), sha256=SHA256) == file
    with pytest.raises(CheckpointError, match=f"has the sha256 {SHA256}, not 000"):
        locate(file, sha256="0" * 64)


def test_the_hash_of_a_directory_is_that_of_its_file(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    assert locate(tmp_path, sha256=SHA256) == tmp_path
    with pytest.raises(CheckpointError, match="has the sha256"):
        locate(tmp_path, sha256="0" * 64)


def test_a_cached_download_is_used_and_a_damaged_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cached = tmp_path / "transferzoo" / SHA256[:16] / "a.npz"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT)
    assert locate(f"https://example.com/v1/a.npz?download=1#sha256={SHA256}") == cached
    cached.write_bytes(CONTENT[:-1])
    with pytest.raises(FileNotFoundError, match="is not in the cache"):
        locate(f"https://example.com/v1/a.npz#sha256={SHA256}")


class Server(BaseHTTPRequestHandler):
    """/whole gives the file, /short promises more than it gives, all else is 404."""

    def do_GET(self):
        self.send_response(200 if self.path in ("/whole", "/short") else 404)
        self.send_header("Content-Length", str(len(CONTENT) + (self.path == "/short")))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *args):
        """Nothing: the test's output is for its own words."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_download_is_whole(tmp_path, server):
    download(f"{server}/whole", tmp_path / "cache" / "a.npz", sha256=SHA256)
    assert (tmp_path / "cache" / "a.npz").read_bytes() == CONTENT
    assert os.listdir(tmp_path / "cache") == ["a.npz"]


@pytest.mark.parametrize(
    ("path", "sha256", "kind", "words"),
    [
        ("/whole", "0" * 64, CheckpointError, "has the sha256"),
        ("/short", hashlib.sha256(CONTENT + b"x").hexdigest(), CheckpointError, "has the sha256"),
        ("/absent", SHA256, FileNotFoundError, "could not be fetched: HTTP Error 404"),
    ],
)
def test_a_failed_download_leaves_nothing(tmp_path, server, path, sha256, kind, words):
    with pytest.raises(kind, match=words):
        download(f"{server}{path}", tmp_path / "a.npz", sha256=sha256)
    assert os.listdir(tmp_path) == []


def test_a_server_that_is_not_there(tmp_path, server):
    with pytest.raises(FileNotFoundError, match="could not be fetched"):
        download("http://127.0.0.1:1/a.npz", tmp_path / "a.npz", sha256=SHA256)


def test_a_download_killed_midway_leaves_no_file_and_the_next_one_works(tmp_path, server):
    """The server stops for good after half; the process is killed as soon as bytes have reached the disk."""
    halfway, target = threading.Event(), tmp_path / "a.npz"

    class Half(Server):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT * 20)
            halfway.set()
            stop.wait(60)

    stop = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Half) as slow:
        threading.Thread(target=slow.serve_forever, daemon=True).start()
        code = (
            "from pathlib import Path; from zoo.weights.download import download; "
            f"download('http://127.0.0.1:{slow.server_port}/', Path({str(target)!r}), sha256={SHA256!r})"
        )
        child = subprocess.Popen([sys.executable, "-c", code])
        assert halfway.wait(60)
        while not any(file.stat().st_size for file in tmp_path.glob(".partial-*/a.npz")):
            assert child.poll() is None
        child.kill()
        child.wait()
        stop.set()
        slow.shutdown()
    assert not target.exists()
    download(f"{server}/whole", target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_two_processes_fetch_the_same_file_at_once(tmp_path, server):
    target = tmp_path / "a.npz"
    code = (
        "from pathlib import Path; from zoo.weights.download import download\n"
        f"for _ in range(20): download('{server}/whole', Path({str(target)!r}), sha256={SHA256!r})"
    )
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    sizes = set()
    while any(child.poll() is None for child in children):
        if target.exists():
            sizes.add(target.stat().st_size)
    assert [child.returncode for child in children] == [0, 0]
    assert sizes == {len(CONTENT)} and os.listdir(tmp_path) == ["a.npz"]  # never seen half-written
