"""A Hub of our own: its cache on disk, and its service over HTTP on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def blob_name(name: str, content: bytes) -> str:
    """What the Hub's client calls a file in its cache: large ones by their sha256, small ones by git's hash."""
    if name.endswith(".safetensors"):
        return sha256(content)
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def cached(home: Path, repository: str, files: Mapping[str, bytes], *, revision: str = REVISION) -> Path:
    """A repository as the Hub's client leaves it in HF_HOME; its snapshot's folder."""
    place = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / revision
    for folder in (snapshot, place / "blobs", place / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(revision)
    for name, content in files.items():
        (place / "blobs" / blob_name(name, content)).write_bytes(content)
        (snapshot / name).symlink_to(f"../../blobs/{blob_name(name, content)}")
    return snapshot


@contextmanager
def served(repositories: Mapping[str, Mapping[str, bytes]]) -> Iterator[str]:
    """The address of a service that has these repositories, for HF_ENDPOINT."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0].strip("/")
            for repository, files in repositories.items():
                if path in (f"api/models/{repository}", f"api/models/{repository}/revision/main"):
                    return self.send(json.dumps(described(repository, files)).encode(), with_body=with_body)
                if path == f"api/models/{repository}/tree/{REVISION}":
                    return self.send(json.dumps(listed(files)).encode(), with_body=with_body)
                for name, content in files.items():
                    if path == f"{repository}/resolve/{REVISION}/{name}":
                        tags = {"ETag": f'"{blob_name(name, content)}"', "X-Repo-Commit": REVISION}
                        return self.send(content, tags, with_body=with_body)
            self.send_error(404)

        def send(self, content: bytes, headers: Mapping[str, str] | None = None, *, with_body: bool) -> None:
            self.send_response(200)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, *args):
            """Nothing: the test's output is for its own words."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def described(repository: str, files: Mapping[str, bytes]) -> dict[str, object]:
    """What the Hub tells of a repository when it is asked for the files' metadata."""

    def sibling(name: str, content: bytes) -> dict[str, object]:
        large = {"lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 134}}
        return {"rfilename": name, "size": len(content), **(large if name.endswith(".safetensors") else {})}

    return {
        "id": repository,
        "modelId": repository,
        "sha": REVISION,
        "private": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [sibling(name, content) for name, content in files.items()],
    }


def listed(files: Mapping[str, bytes]) -> list[dict[str, object]]:
    """What the Hub tells of the files of a revision."""
    return [
        {"type": "file", "oid": blob_name(name, content)[:40], "size": len(content), "path": name}
        for name, content in files.items()
    ]
