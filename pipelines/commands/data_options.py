"""Options of `zoo fit` that say what is trained on, as pipelines.data holds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from pipelines.data import AnyData, Images, Pairs, Series, Tables, Texts

KINDS: Mapping[str, type[AnyData]] = {
    "images": Images, "texts": Texts, "tables": Tables, "series": Series, "pairs": Pairs,
}  # fmt: skip

_OPTION = {"columns": "column", "class_columns": "class-column"}  # where it is not the field's own name


def _option(help: str, *names: str, kind: str = "") -> Any:
    return typer.Option(*names, help=help, rich_help_panel=f"Options of --{kind}" if kind else None)


ImageSource = Annotated[
    str | None,
    _option("A folder with one sub-folder a class, a CSV of path,label, an .npz, tfds:NAME, digits, fashion_mnist."),
]
TextSource = Annotated[
    str | None, _option("A CSV, TSV or JSONL file, a folder of .txt files with one sub-folder a class, or tfds:NAME.")
]
TableSource = Annotated[str | None, _option("A CSV file with a header, or one of iris, wine, breast_cancer, diabetes.")]
SeriesSource = Annotated[str | None, _option("A CSV file with a header and a row a time step, in order.")]
PairSource = Annotated[
    str | None, _option("Images with captions: a CSV, TSV or JSONL file of image,caption, or a folder with one.")
]
Validation = Annotated[str | None, _option("A source of its own for validation; else a part is split off.")]
Test = Annotated[str | None, _option("A source of its own for the test; else a part is split off.")]
DataDir = Annotated[str | None, _option("Where tfds data sets lie, or the files of fashion_mnist.")]

Size = Annotated[int | None, _option("Image size in pixels; the model's own if not given.", kind="images")]
Crop = Annotated[
    float | None,
    _option("Share that the centre crop keeps, 1 for all; the model's own if not given.", kind="images"),
]
Augment = Annotated[str | None, _option("none, light (usual) or standard.", kind="images")]
Views = Annotated[
    int | None,
    _option("Ways in which each image is augmented, in turn; frozen layers see each once. Else others.", kind="images"),
]
Flip = Annotated[bool | None, _option("Mirror images while training.", "--flip/--no-flip", kind="images")]
Balance = Annotated[bool, _option("Draw each class equally often while training.", "--balance", kind="images")]
Mixup = Annotated[float | None, _option("Mix images in pairs, by a share from Beta(x, x): 0.2, say.", kind="images")]
Cutmix = Annotated[float | None, _option("Paste a part of an image into another, as --mixup: 1, say.", kind="images")]
LabelDelim = Annotated[
    str | None,
    _option("An image has several labels: what divides their names in a CSV's cell, such as '|'.", kind="images"),
]
ClassColumn = Annotated[
    list[str] | None,
    _option("The same by columns of 0 and 1, one a class; one option each.", "--class-column", kind="images"),
]
SkipCorrupt = Annotated[bool, _option("Leave out files that cannot be read.", "--skip-corrupt", kind="images")]

ImageColumn = Annotated[
    str | None, _option("The column of image files; image, or file_name, if not given.", kind="pairs")
]
TextColumn = Annotated[
    str | None, _option("The column of texts; text if not given, of pairs caption.", kind="texts or --pairs")
]
Prompt = Annotated[
    str | None,
    _option("How every caption begins, such as 'a photo of'; a model is not asked to write it.", kind="pairs"),
]
SecondColumn = Annotated[str | None, _option("A second text beside the first: a pair, a question.", kind="texts")]
LabelColumn = Annotated[str | None, _option("The column of what to learn; label if not given.", kind="texts")]
Length = Annotated[int | None, _option("Tokens after which a text is cut; at most the model's own.", kind="texts")]
Tokenizer = Annotated[
    str | None,
    _option(
        "A tokenizer.json, or wordpiece, bpe or unigram to train one; the checkpoint's if not given.", kind="texts"
    ),
]
Vocabulary = Annotated[int | None, _option("Tokens of a tokenizer that is trained; 8000 if not given.", kind="texts")]

Target = Annotated[
    list[str] | None,
    _option(
        "The column to predict (of images or a series several, one option each).", kind="tables, --series or --images"
    ),
]
Categorical = Annotated[
    list[str] | None, _option("A column of numbers that name categories; one option each.", kind="tables")
]
Ignore = Annotated[list[str] | None, _option("A column to leave out; one option each.", kind="tables")]
Column = Annotated[
    list[str] | None,
    _option("A column to predict from, one option each; the targets if not given.", "--column", kind="series"),
]
Window = Annotated[int | None, _option("Time steps seen; 24 if not given.", kind="series")]
Horizon = Annotated[int | None, _option("Time steps predicted; 1 if not given.", kind="series")]
Stride = Annotated[int | None, _option("Time steps from one window to the next; 1 if not given.", kind="series")]


def data(given: Mapping[str, Any], *, command: str = "fit") -> AnyData:
    """The data of the one kind that has a source, from the options that are given to a command.

    Raises:
        ValueError: no source or several, or an option of another kind.
    """
    chosen = {kind: given[kind] for kind in KINDS if kind in given}
    if len(chosen) != 1:
        got = f"; got {_named(chosen)}" if chosen else ""
        raise ValueError(
            f"zoo {command} needs a model and --images, --texts, --tables, --series or --pairs, one of them"
            f"{got}: zoo {command} mobilenet_v2 --images FOLDER."
        )
    ((kind, source),) = chosen.items()
    known = {name for each in KINDS.values() for name in _fields(each)}
    options = {name: value for name, value in given.items() if name in known}
    for name in options:
        if name not in _fields(KINDS[kind]):
            able = [other for other in KINDS if name in _fields(KINDS[other])]
            raise ValueError(f"{_named([name])} is for {_named(able)}, not for --{kind}.")
    if kind == "series" and "target" not in options:
        raise ValueError("--series needs the option --target: the column to predict, one option each.")
    return KINDS[kind](source, **{name: _value(kind, name, value) for name, value in options.items()})


def _value(kind: str, name: str, value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    if kind != "tables" or name != "target":
        return tuple(value)
    if len(value) > 1:
        raise ValueError(f"--tables predicts one --target, got {len(value)}: {', '.join(value)}.")
    return value[0]


def _fields(kind: type[AnyData]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _named(options: Iterable[str]) -> str:
    return " and ".join(f"--{_OPTION.get(name, name).replace('_', '-')}" for name in options)
