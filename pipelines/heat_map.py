"""Who attends to whom in a text, as a picture: tokens down and across, the darker the more attention."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import zoo
from pipelines.files import replacing
from pipelines.objectives.pictures import fonts, short
from pipelines.text_checkpoint import limit_of, vocabulary_of
from pipelines.tokenizers import Tokenizer, check_fit

if TYPE_CHECKING:
    import keras
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from tokenizers import Encoding

Head = int | Literal["all"] | None
_SIDE = (3.5, 14.0)  # inches that a map's longer side is at least and at most


@dataclass(frozen=True, eq=False)
class Tokens:
    """Readable names of tokens, and before which of them another text begins."""

    labels: tuple[str, ...]
    breaks: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class HeatMap:
    """The attention in one block: `shares` (heads, T, S) of what each of `queries` gives to each of `keys`."""

    shares: np.ndarray
    queries: Tokens
    keys: Tokens
    title: str

    def head(self, head: int | None) -> HeatMap:
        """One head of it, or the mean of all: (1, T, S).

        Raises:
            ValueError: there is no such head.
        """
        heads = len(self.shares)
        if head is None:
            mean = self.shares.mean(axis=0, keepdims=True)
            return dataclasses.replace(self, shares=mean, title=f"{self.title}, mean of heads 0 to {heads - 1}")
        if not -heads <= head < heads:
            raise ValueError(f"There is no head {head} in {self.title}: it has heads 0 to {heads - 1}.")
        title = f"{self.title}, head {head % heads}"
        return dataclasses.replace(self, shares=self.shares[head % heads][None], title=title)


def heat_map(
    model: keras.Model, tokenizer: Tokenizer, text: str, second: str | None = None, *, block: int = -1
) -> HeatMap:
    """What the tokens of a text, or of two, attend to in one block of a model; negative blocks count from the last.

    Of an encoder-decoder model `text` is read and `second` is written: the map is then of what the decoder's tokens
    look at in the text. Without a second text it is of the encoder.

    Raises:
        ValueError: the model takes no texts or only shorter ones, has another tokenizer, or no such block.
    """
    taken = model.input if isinstance(model.input, dict) else {}
    if "token_ids" not in taken:
        raise ValueError(f"{model.name!r} takes no tokens, so there is no text whose attention could be shown.")
    check_fit(tokenizer, vocabulary_of(model), model=model.name, published=False)
    writes, tower = "decoder_token_ids" in taken, ""
    read = tokenizer.library.encode(text, None if writes else second)
    queries = keys = _tokens(read, (text, second or ""))
    inputs = _inputs(read.ids)
    if "segment_ids" in taken:
        inputs["segment_ids"] = np.array([read.type_ids], "int32")
    if writes:
        written, ids = _written(tokenizer, second or "")
        inputs |= {f"decoder_{name}": array for name, array in _inputs(ids).items()}
        queries, tower = (queries, "encoder.") if second is None else (written, "decoder.")
    limit = limit_of(model)
    longest = max(len(queries), len(keys))
    if not len(keys) or (limit is not None and longest > limit):
        raise ValueError(f"The text has {longest} tokens; {model.name!r} takes 1 to {limit or 'any number'}.")
    name, shares = _block(zoo.attention_weights(model, inputs), tower, block, model)
    return HeatMap(shares[0], queries, keys, f"{model.name}, {name}")


def draw(found: HeatMap, path: str | Path, *, head: Head = None) -> None:
    """Write a PNG: of one head, of the mean of all (None), or of "all" heads side by side.

    Raises:
        ValueError: there is no such head.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = found if head == "all" else found.head(head)
    with matplotlib.rc_context({"font.family": fonts()}):
        figure = _figure(found)
        with replacing(Path(path)) as temporary:
            figure.savefig(temporary, dpi=150, format="png")
        pyplot.close(figure)


def _inputs(ids: Sequence[int]) -> dict[str, np.ndarray]:
    return {"token_ids": np.array([ids], "int32"), "padding_mask": np.ones((1, len(ids)), "int32")}


def _written(tokenizer: Tokenizer, text: str) -> tuple[Tokens, list[int]]:
    """What a decoder is given to write a text: the start token, then the text's."""
    start = tokenizer.vocabulary.start or 0
    encoding = tokenizer.library.encode(text, add_special_tokens=False)
    labels = (tokenizer.library.id_to_token(start) or "start", *_tokens(encoding, (text, "")).labels)
    return Tokens(labels), [start, *encoding.ids]


def _block(weights: dict[str, np.ndarray], tower: str, block: int, model: keras.Model) -> tuple[str, np.ndarray]:
    """The name and the weights of a block; those to the context in a decoder that has one."""
    kind = ".cross" if tower == "decoder." else ""
    names = [name for name in weights if name.startswith(tower) and name.endswith(kind)]
    if not -len(names) <= block < len(names):
        raise ValueError(f"{model.name!r} has no block {block} here: it has blocks 0 to {len(names) - 1}.")
    return names[block], weights[names[block]]


def _tokens(encoding: Encoding, texts: tuple[str, str]) -> Tokens:
    """Tokens as they stand in the text, those that go on with a word with a dot before them."""
    labels, breaks = [], []
    words, numbers = encoding.word_ids, encoding.sequence_ids
    for place, (token, (start, end)) in enumerate(zip(encoding.tokens, encoding.offsets, strict=True)):
        number = numbers[place]
        piece = token if number is None else texts[number][start:end].strip()
        goes_on = number is not None and place and (numbers[place - 1], words[place - 1]) == (number, words[place])
        labels.append(f"·{piece}" if goes_on and piece else piece or token)
        if place and number == 1 and 1 not in numbers[:place]:
            breaks.append(place)
    return Tokens(tuple(labels), tuple(breaks))


def _figure(found: HeatMap) -> Figure:
    from matplotlib import pyplot
    from matplotlib.colors import PowerNorm

    count = len(found.shares)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    longest = max(len(found.queries), len(found.keys))
    cell = min(max(0.36 * longest, _SIDE[0]), _SIDE[1]) / longest / max(1, columns / 2)
    margin = 0.085 * max(map(len, map(short, (*found.queries.labels, *found.keys.labels)))) + 0.6
    size = (columns * (cell * len(found.keys) + 0.2) + margin + 1, rows * (cell * len(found.queries) + 0.4) + margin)
    figure, grid = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    norm = PowerNorm(0.5, vmin=0, vmax=float(found.shares.max()))  # small shares are to be seen beside large ones
    for index, axes in enumerate(grid.flat):
        if index >= count:
            axes.set_axis_off()
            continue
        image = axes.imshow(found.shares[index], cmap="Blues", norm=norm, interpolation="nearest")
        _label(axes, found, cell=cell, left=index % columns == 0, top=index < columns)
        if count > 1:
            axes.set_xlabel(f"head {index}", fontsize=9)
    figure.colorbar(image, ax=grid, shrink=0.6, label="share of attention", format="{x:.2g}")
    figure.suptitle(found.title, fontsize=11, parse_math=False)
    figure.supylabel("this token attends ...", fontsize=9)
    figure.supxlabel("... to this one", fontsize=9)
    return figure


def _label(axes: Axes, found: HeatMap, *, cell: float, left: bool, top: bool) -> None:
    """Token names at the outer sides, as many as there is room for, and lines between the texts."""
    every = math.ceil(0.12 / cell)  # inches that a name needs
    font: dict[str, Any] = {"fontsize": min(10, 60 * max(cell, 0.12)), "parse_math": False}
    for axis, tokens, shown in ((axes.xaxis, found.keys, top), (axes.yaxis, found.queries, left)):
        places = range(0, len(tokens), every) if shown else ()
        axis.set_ticks(places, [short(tokens.labels[place]) for place in places], **font)
        axis.set_tick_params(length=2)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", rotation=90)
    for place in found.keys.breaks:
        axes.axvline(place - 0.5, color="0.4", linewidth=0.8)
    for place in found.queries.breaks:
        axes.axhline(place - 0.5, color="0.4", linewidth=0.8)
