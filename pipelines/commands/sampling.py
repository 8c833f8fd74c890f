"""`zoo sample` and `zoo reconstruct`: images of random latents, and of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pipelines.commands.terminal import import_tensorflow
from pipelines.commands.terminal import out as terminal


def sample(
    bundle: Annotated[Path, typer.Argument(help="A folder made by zoo fit, with a generative model.")],
    text: Annotated[str | None, typer.Argument(help="What to show, for a model that draws after a text.")] = None,
    count: Annotated[int, typer.Option(help="How many images.")] = 16,
    seed: Annotated[int, typer.Option(help="Decides what is drawn.")] = 0,
    label: Annotated[
        str | None, typer.Option(help="The class of all images; of a model with classes all in turn, if not given.")
    ] = None,
    truncation: Annotated[
        float | None, typer.Option(help="Draw no latent numbers beyond this: less varied, and better. 1, say.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of codes drawn after a text; 1 if not given.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw each code from so many most probable ones.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the fewest codes whose probabilities add up to this.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="Over 1: closer to the text, and less varied. 3, say.")] = None,
    rank_by: Annotated[
        str | None,
        typer.Option(help="A CLIP, as a folder of zoo fit or a checkpoint: images that fit the text best come first."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A .png for all images side by side, or a folder for a file of each.")
    ] = Path("samples.png"),
) -> None:
    """Make images with a generative model, into one picture or a file each."""
    import_tensorflow()
    from pipelines.sample import sample

    chosen = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance, "rank_by": rank_by}
    asked = {"count": count, "seed": seed, "label": label, "truncation": truncation, **chosen}
    paths = sample(bundle, text, **asked).write(out)
    what = f"{len(paths)} images in" if out.suffix.lower() != ".png" else f"{count} images:"
    terminal.print(f"{what} [bold]{escape(str(out))}[/]", soft_wrap=True)


def reconstruct(
    bundle: Annotated[Path, typer.Argument(help="A folder made by zoo fit, with an autoencoder.")],
    images: Annotated[list[str], typer.Argument(help="Image files.", metavar="IMAGE...")],
    label: Annotated[str | None, typer.Option(help="The class of the images, for a model with classes.")] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A .png for all side by side, or a folder for a file of each.")
    ] = Path("reconstructions.png"),
) -> None:
    """Show images beside what an autoencoder makes of them."""
    import_tensorflow()
    from pipelines.reconstruction import reconstruct

    reconstruct(bundle, images, label=label).write(out)
    terminal.print(f"{len(images)} images and what comes back: [bold]{escape(str(out))}[/]", soft_wrap=True)
