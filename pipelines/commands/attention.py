"""`zoo attention`: who attends to whom in a text, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pipelines.commands.terminal import import_tensorflow
from pipelines.commands.terminal import out as terminal

if TYPE_CHECKING:
    import keras

    from pipelines.heat_map import Head
    from pipelines.tokenizers import Tokenizer


def attention(
    bundle_or_checkpoint: Annotated[
        str, typer.Argument(help="A folder that zoo fit made, or a checkpoint: hf://org/repo or ./directory.")
    ],
    text: Annotated[str, typer.Argument(help="The text to read.")],
    second: Annotated[
        str | None, typer.Argument(help="A text beside it; of an encoder-decoder model the text it writes.")
    ] = None,
    block: Annotated[int, typer.Option(help="Which block, from 0; negative ones count from the last.")] = -1,
    head: Annotated[str | None, typer.Option(help="A head's number, or all; their mean if not given.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG to write.")] = Path("attention.png"),
) -> None:
    """Draw which tokens of a text attend to which, in one block of a model."""
    chosen = _head(head)
    import_tensorflow()
    from pipelines.heat_map import draw, heat_map

    model, tokenizer = _open(bundle_or_checkpoint)
    found = heat_map(model, tokenizer, text, second, block=block)
    draw(found, out, head=chosen)
    terminal.print(f"{escape(found.title)}: [bold]{escape(str(out))}[/]", soft_wrap=True)


def _head(text: str | None) -> Head:
    if text is None or text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--head {text!r} must be a number, or all.") from None


def _open(path: str) -> tuple[keras.Model, Tokenizer]:
    """The model of a bundle or of a checkpoint, and its tokenizer.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    import zoo
    from pipelines import bundle
    from pipelines.tokenizers import open_tokenizer

    if (Path(path) / "bundle.json").is_file():
        return bundle.load(path).load_model(), open_tokenizer(path)
    return zoo.from_checkpoint(path), open_tokenizer(path)
