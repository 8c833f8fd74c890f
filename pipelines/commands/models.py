"""`zoo list` and `zoo show`: the models, what they cost, and what their publishers say of them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from pipelines.commands.terminal import megabytes, out
from zoo.core.naming import nearest

if TYPE_CHECKING:
    from zoo.core.catalog import Entry
    from zoo.weights.curated import Published


class Order(StrEnum):
    """What models can be sorted by."""

    top1 = "top1"
    params = "params"
    macs = "macs"
    name = "name"


_STEPS = {"images": "pixels", "texts": "tokens", "series": "steps", "latents": "latent"}
_KEYS: dict[Order, Callable[[Entry], Any]] = {
    Order.top1: lambda entry: -(entry.best.top1 or 0) if entry.best else 0,  # the best first, unknown ones last
    Order.params: lambda entry: entry.parameters,
    Order.macs: lambda entry: entry.macs,
    Order.name: lambda entry: entry.name,
}


def list_models(
    pattern: Annotated[str, typer.Argument(help="Names to show, with * for any letters: 'resnet*'.")] = "*",
    family: Annotated[str | None, typer.Option(help="Only this family, such as vit.")] = None,
    max_params: Annotated[str | None, typer.Option(help="Only models up to this size, such as 30M.")] = None,
    sort: Annotated[Order | None, typer.Option(help="Best top-1 first, or smallest first; else by family.")] = None,
) -> None:
    """List the models: parameters, multiply-accumulates, size of the input, published top-1 accuracy, weights."""
    from zoo.core import catalog

    limit = _count(max_params) if max_params else None
    known = catalog.entries()
    found = [
        entry
        for entry in known
        if fnmatch.fnmatchcase(entry.name, pattern)
        and family in (None, entry.family)
        and (limit is None or entry.parameters <= limit)
    ]
    if family is not None and family not in (entry.family for entry in known):
        names = tuple(dict.fromkeys(entry.family for entry in known))
        raise ValueError(f"No family named {family!r}.{nearest(family, names)} Families: {', '.join(names)}.")
    if not found:
        raise ValueError(f"No model matches {pattern!r} and these options. All of them: zoo list.")
    out.print(_table(sorted(found, key=_KEYS[sort]) if sort else found))


def show(name: Annotated[str, typer.Argument(help="A model's name, as in zoo list.")]) -> None:
    """Show one model: cost, input, sizes of its exports, paper, and its weights with accuracy and licence."""
    from zoo.core import catalog

    known = {entry.name: entry for entry in catalog.entries()}
    if name not in known:
        raise ValueError(f"No architecture named {name!r}.{nearest(name, known)} See: zoo list.")
    entry = known[name]
    table = Table(show_header=False, box=box.SIMPLE_HEAD, pad_edge=False)
    for title, text in _facts(entry):
        table.add_row(title, text)
    out.print(table)
    for tag in entry.tags:
        out.print(_weights(tag), soft_wrap=True)
    if not entry.tags:
        out.print("No weights are known by a tag; any that fit load by hf://org/repo, a URL or a path.", soft_wrap=True)


def _table(entries: list[Entry]) -> Table:
    """A line a model, in 80 columns or more: tags that do not fit are counted, and `zoo show` names them."""
    columns = {
        "model": [entry.name for entry in entries],
        "parameters": [f"{entry.parameters:,}" for entry in entries],
        "MACs": [_short(entry.macs) for entry in entries],
        "input": [_input(entry) for entry in entries],
        "top-1": [f"{entry.best.top1:.1f}" if entry.best else "" for entry in entries],
    }
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    room = out.width
    for title, cells in columns.items():
        width = max(map(len, (title, *cells)))
        table.add_column(title, justify="left" if title == "model" else "right", no_wrap=True, min_width=width)
        room -= width + 2  # the gap between two columns
    table.add_column("weights", no_wrap=True)
    for entry, *cells in zip(entries, *columns.values(), strict=True):
        table.add_row(*cells, _fitting([tag.tag for tag in entry.tags], room))
    return table


def _fitting(tags: list[str], room: int) -> str:
    """As many tags as fit in so many characters, and how many more there are."""
    for count in range(len(tags), 0, -1):
        rest = f" +{len(tags) - count}" if count < len(tags) else ""
        if len(text := ", ".join(tags[:count]) + rest) <= room:
            return text
    return f"{tags[0][: max(room - 1, 0)]}…" if tags else ""


def _facts(entry: Entry) -> list[tuple[str, str]]:
    sizes = entry.sizes
    counted = {
        "images": "an image",
        "latents": "an image",
        "pairs": f"for an image and {entry.counted_length} tokens",
    }.get(entry.takes) or f"for {entry.counted_length} {_STEPS[entry.takes]}"
    return [
        ("model", entry.name),
        ("family", entry.family),
        ("parameters", f"{entry.parameters:,}"),
        ("MACs", f"{_short(entry.macs)} multiply-accumulates {counted}"),
        ("input", _whole_input(entry)),
        ("tasks", f"{', '.join(entry.tasks)}{_usual_classes(entry)}"),
        ("TFLite", f"about {megabytes(sizes.float32)} float32, {megabytes(sizes.float16)} float16, "
                   f"{megabytes(sizes.int8)} int8"),
        ("SavedModel", f"about {megabytes(sizes.saved_model)}"),
        ("paper", entry.paper),
    ]  # fmt: skip


def _weights(tag: Published) -> str:
    """One checkpoint, in two lines."""
    classes = "no classifier" if tag.classes is None else f"{tag.classes:,} classes"
    accuracy = f"top-1 {tag.top1:g} % at {tag.top1_size} px, " if tag.top1 is not None else ""
    return f"[bold]{tag.name}[/]: {accuracy}{classes}, {tag.licence}\n  {tag.address}{_pinning(tag)}"


def _pinning(tag: Published) -> str:
    """For a checkpoint on the Hub whose revision nobody has pinned: what a fetch found."""
    if tag.is_pinned:
        return ""
    from zoo.weights.cache import fetched

    found = fetched(tag.uri)
    return f"\n  revision not pinned; {f'fetched at {found.revision}' if found else 'not fetched yet'}"


def _input(entry: Entry) -> str:
    """The size of what a model takes, in a few letters."""
    if entry.size is not None:
        height, width = entry.size
        return f"{height}" if height == width else f"{height}x{width}"
    if not entry.length:
        return _STEPS[entry.takes]
    whole, rest = divmod(entry.length, 1024)
    return f"{entry.length if rest else f'{whole}k'} {_STEPS[entry.takes][:3]}"


def _usual_classes(entry: Entry) -> str:
    return f"; {entry.classes:,} classes unless told" if set(entry.tasks) & {"classify", "tag"} else ""


def _whole_input(entry: Entry) -> str:
    """What a model takes, and how it is made ready."""
    if entry.size is not None:
        height, width = entry.size
        squashed = " without its proportions" if entry.resize == "squash" else ""
        reading = f"{entry.interpolation}, {entry.crop:g} of the resized image{squashed}"
        image = f"{height} x {width} pixels, RGB 0..255, {reading}"
        return f"{image}; up to {entry.length:,} tokens" if entry.length else image
    if entry.takes == "latents":
        return "a vector of random numbers"
    most = f"up to {entry.length:,}" if entry.length else "any number of"
    return f"{most} {_STEPS[entry.takes]}"


def _short(count: int) -> str:
    """4_089_184_256 as '4.09 G'."""
    for scale, unit in ((10**9, "G"), (10**6, "M")):
        if count >= scale:
            return f"{count / scale:.{2 if count < 100 * scale else 0}f} {unit}"
    return f"{count / 1000:.0f} k"


def _count(text: str) -> int:
    """'30M' as 30,000,000."""
    scale = {"K": 10**3, "M": 10**6, "B": 10**9}.get(text[-1:].upper(), 1)
    try:
        count = int(float(text[:-1] if scale > 1 else text) * scale)
    except (ValueError, OverflowError):
        count = 0
    if count <= 0:
        raise ValueError(f"--max-params {text!r} is no number such as 30M.")
    return count
