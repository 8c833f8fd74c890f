"""`zoo fetch`, `zoo bundle` and `zoo verify`: published weights on this machine, and on those without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.terminal import fail, megabytes, out

_TAGS = "Checkpoints, as zoo show names them: resnet50.a1_in1k."


def fetch(tags: Annotated[list[str], typer.Argument(metavar="TAG...", help=_TAGS)]) -> None:
    """Download weights into the cache, and say where they are and what they hash to."""
    from zoo.weights.bundling import fetch
    from zoo.weights.download import hash_of

    for tag in tags:
        path = fetch(tag)
        for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
            out.print(f"[bold]{tag}[/]  {megabytes(file.stat().st_size)}  sha256 {hash_of(file)}", soft_wrap=True)
            out.print(f"  {file}", soft_wrap=True)


def bundle(
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help=_TAGS)],
    folder: Annotated[Path, typer.Option("--out", "-o", help="A new folder.")],
) -> None:
    """Make a folder of weights for a machine without a network: set ZOO_WEIGHTS to it there."""
    from zoo.weights.bundling import bundle

    for entry in bundle(tags, folder):
        size = megabytes(sum(file.size for file in entry.files))
        out.print(f"[bold]{entry.name}[/]  {size}, {entry.licence}  {folder / entry.name}", soft_wrap=True)
    out.print(f"Next, where there is no network: ZOO_WEIGHTS={folder} zoo fit ...", soft_wrap=True)


def verify(
    folder: Annotated[
        Path | None, typer.Argument(help="A bundle; else those of ZOO_WEIGHTS, the cache, and the package's own.")
    ] = None,
) -> None:
    """Hash weights again, and name every file that is damaged or missing."""
    wrong = list(_damaged(folder))
    if wrong:
        fail("\n".join(wrong), 1)
    out.print("Every file is what it should be.")


def _damaged(folder: Path | None) -> Iterator[str]:
    from zoo.weights import cache, offline
    from zoo.weights.curated import published

    for place in offline.bundles() if folder is None else (folder,):
        yield from offline.damaged(place)
    if folder is None:
        yield from _damaged_in_package()
        for uri in dict.fromkeys(line.uri for line in published() if line.uri.startswith("hf://")):
            yield from cache.damaged(uri)


def _damaged_in_package() -> Iterator[str]:
    from zoo.weights import CheckpointError
    from zoo.weights.curated import published
    from zoo.weights.locate import locate

    for line in published():
        if line.uri.startswith("bundled://"):
            try:
                locate(line.uri, sha256=line.sha256)
            except (CheckpointError, FileNotFoundError) as error:
                yield str(error)
