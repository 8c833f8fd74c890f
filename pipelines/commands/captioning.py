"""`zoo caption`: what a model says of images in words."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.commands.terminal import import_tensorflow, out


def caption(
    source: Annotated[
        str,
        typer.Argument(help="A folder made by zoo fit, a checkpoint's folder, hf://org/repo, a SavedModel or .tflite."),
    ],
    images: Annotated[list[str], typer.Argument(help="Image files.")],
    prompt: Annotated[
        str | None, typer.Option(help="How each caption begins, such as 'a photo of'; as in training if not given.")
    ] = None,
    beams: Annotated[int, typer.Option(help="Texts that a beam search keeps at a time; 1 for none.")] = 1,
    length: Annotated[
        int | None, typer.Option(help="At most so many tokens are written; 30, or what fits, if not given.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="Have this answered, by a model for questions (task=answer).")
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(help="How probably this tells of the image, by a model for that (task=match); several times."),
    ] = None,
) -> None:
    """Say in words what images show; or answer a question about them, or say which texts fit."""
    if (question is not None or match) and prompt:
        raise ValueError("--prompt is how a caption begins; it goes with neither --question nor --match.")
    if question is not None and match:
        raise ValueError("Give --question or --match, not both.")
    if match and (beams != 1 or length is not None):
        raise ValueError("--beams and --length are for what is written; --match writes nothing.")
    import_tensorflow()
    from pipelines.describer import Describer
    from pipelines.exported_captions import ExportedDescriber, is_exported
    from pipelines.image_files import check_there

    check_there(images)  # before a model is read, which takes longer
    if is_exported(source):
        if match or question is not None or beams != 1:
            raise ValueError("An exported model writes the most probable caption: no --beams, --question or --match.")
        return _print(images, ExportedDescriber.open(source).captions(images, prompt=prompt, length=length))
    model = Describer.open(source)
    if match:
        table = Table("image", *map(escape, match))
        for name, row in zip(images, model.matches(images, match), strict=True):
            table.add_row(escape(name), *(f"{share:.1%}" for share in row))
        return out.print(table)
    if question is not None:
        found = model.answers(images, question, beams=beams, length=length)
    else:
        found = model.captions(images, prompt=prompt, beams=beams, length=length)
    return _print(images, found)


def _print(images: list[str], texts: list[str]) -> None:
    for name, text in zip(images, texts, strict=True):
        typer.echo(text if len(images) == 1 else f"{name}: {text}")
