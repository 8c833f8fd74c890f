"""`zoo predict` and `zoo search`: what a model says of images and texts, and which images it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.commands.terminal import import_tensorflow, out


def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="A folder made by zoo fit, or one of its files (.tflite, saved_model); with --zero-shot also a CLIP "
            "checkpoint: a directory, or hf://org/repo."
        ),
    ],
    inputs: Annotated[list[str], typer.Argument(help="Image files, or texts in quotes.", metavar="INPUT...")],
    second: Annotated[
        list[str] | None, typer.Option(help="The second text, or the question, to each text; once for each.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many classes to show.")] = 3,
    threshold: Annotated[
        float | None, typer.Option(help="Of several labels an image, show those as probable; 0.5 if not given.")
    ] = None,
    cut: Annotated[bool, typer.Option("--cut", help="Cut texts that are too long, as in training.")] = False,
    zero_shot: Annotated[
        list[str] | None,
        typer.Option(
            "--zero-shot",
            help='Tell classes in words to a model that compares images with texts: "a photo of a {}", several times '
            "for the mean of several. INPUTs that are no files are the classes, unless --class names them.",
            metavar="TEMPLATE",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="A class for --zero-shot; once for each.", metavar="NAME")
    ] = None,
) -> None:
    """Name what is in images or texts, or predict numbers of images, with a bundle, a SavedModel or a .tflite file."""
    if classes and not zero_shot:
        raise ValueError('--class is for --zero-shot: zoo predict MODEL cat.jpg --zero-shot "a {}" --class cat ...')
    if zero_shot and (second or cut or threshold is not None):
        raise ValueError("--second, --cut and --threshold are for other models than those of --zero-shot.")
    import_tensorflow()
    if zero_shot:
        return _print_zero_shot(model, inputs, zero_shot, classes or [], top=top)
    from pipelines.commands.answers import print_answers
    from pipelines.predict import Predictor

    print_answers(Predictor.open(model), inputs, second, top=top, cut=cut, threshold=threshold)


def search(
    model: Annotated[
        str, typer.Argument(help="A folder made by zoo fit --pairs, or a CLIP checkpoint: a directory, hf://org/repo.")
    ],
    query: Annotated[str, typer.Argument(help="A text in quotes, or an image file.")],
    images: Annotated[Path, typer.Option(help="The folder of images to search in.")],
    top: Annotated[int, typer.Option(help="How many images to show.")] = 10,
) -> None:
    """Find the images of a folder that fit a text, or are like an image; their embeddings are kept in the folder."""
    from pipelines.decoding import EXTENSIONS

    if top < 1:
        raise ValueError(f"--top {top} must be at least 1.")
    import_tensorflow()
    from pipelines import search as searching
    from pipelines.matching import Matcher

    matcher = Matcher.open(model)
    is_image = Path(query).suffix.lower() in EXTENSIONS
    wanted = matcher.images([query]) if is_image else matcher.texts([query])
    index = searching.build(matcher, images, tell=_tell)
    table = Table("", "image", "cosine")
    for place, (name, cosine) in enumerate(index.nearest(wanted[0], top=top), start=1):
        table.add_row(f"{place}.", escape(str(index.folder / name)), f"{cosine:.4f}")
    out.print(table)


def _tell(images: int) -> None:
    out.print(f"{images:,} images are looked at, which is done once.")


def _print_zero_shot(model: str, inputs: list[str], templates: list[str], classes: list[str], *, top: int) -> None:
    from pipelines.commands.answers import print_ranked
    from pipelines.matching import Matcher, images_and_classes

    paths, names = images_and_classes(inputs, classes)
    found = Matcher.open(model).probabilities(paths, names, templates=templates)
    ranked = [sorted(zip(names, map(float, row), strict=True), key=lambda pair: -pair[1])[:top] for row in found]
    print_ranked("image", paths, ranked)
