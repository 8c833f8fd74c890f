"""`zoo generate`: a language model goes on with a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.terminal import import_tensorflow

if TYPE_CHECKING:
    import keras

    from pipelines.strategies import Strategy
    from pipelines.tokenizers import Tokenizer


def generate(
    source: Annotated[str, typer.Argument(help="A folder made by zoo fit, a checkpoint's folder, or hf://org/repo.")],
    prompt: Annotated[str, typer.Argument(help="The text to go on with, or that an encoder-decoder model reads.")],
    new_tokens: Annotated[int, typer.Option(help="At most so many tokens are written.")] = 50,
    temperature: Annotated[
        float | None, typer.Option(help="Draw tokens at random; under 1 more often the probable ones.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many most probable tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the fewest tokens whose probabilities add up to this.")
    ] = None,
    beams: Annotated[int, typer.Option(help="Texts that a beam search keeps at a time; 1 for none.")] = 1,
    length_penalty: Annotated[float, typer.Option(help="Of a beam search: over 0 favours long texts.")] = 1.0,
    repetition_penalty: Annotated[float, typer.Option(help="Over 1: less of what is there already.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Decides what is drawn.")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option(help="A token that ends the text, besides the tokenizer's own; several times.")
    ] = None,
) -> None:
    """Write on from a text, token by token as they come; the most probable ones unless told to draw."""
    from pipelines.strategies import Beam, Greedy, Sample

    strategy: Strategy = Greedy(repetition_penalty)
    if (temperature, top_k, top_p) != (None, None, None):
        if beams != 1:
            raise ValueError("A beam search draws nothing: give --beams, or --temperature, --top-k and --top-p.")
        strategy = Sample(1.0 if temperature is None else temperature, top_k, top_p, repetition_penalty, seed)
    elif beams != 1:
        strategy = Beam(beams, length_penalty, repetition_penalty=repetition_penalty)
    import_tensorflow()
    model, tokenizer = _open(source)
    _print(model, tokenizer, prompt, new_tokens=new_tokens, strategy=strategy, stop=stop or [])


def _open(source: str) -> tuple[keras.Model, Tokenizer]:
    """A language model and its tokenizer.

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: it is no language model.
    """
    import zoo
    from pipelines import bundle
    from pipelines.tokenizers import check_fit, open_tokenizer
    from zoo.layers.decoding import decoder_of

    is_bundle = (Path(source) / "bundle.json").is_file()
    model = bundle.load(source).load_model() if is_bundle else zoo.from_checkpoint(source)
    decoder = decoder_of(model)  # refuses other models before their tokenizer is looked for
    tokenizer = open_tokenizer(source)
    check_fit(tokenizer, decoder.vocabulary, model=model.name, published=not is_bundle)
    return model, tokenizer


def _print(
    model: keras.Model, tokenizer: Tokenizer, prompt: str, *, new_tokens: int, strategy: Strategy, stop: list[str]
) -> None:
    from pipelines.generate import generate, stream
    from pipelines.strategies import Beam

    known = tokenizer.vocabulary
    ends = [*stop, *([known.end] if known.end is not None else [])]
    options = {"stop": ends, "tokenizer": tokenizer.library, "start": known.start or 0}
    if isinstance(strategy, Beam):
        pieces = iter(generate(model, [prompt], new_tokens=new_tokens, strategy=strategy, **options))
    else:
        written = stream(model, [prompt], new_tokens=new_tokens, strategy=strategy, **options)
        pieces = (one.piece for one in written)
    if "decoder_token_ids" not in model.input:
        typer.echo(prompt, nl=False)
    for piece in pieces:
        typer.echo(piece, nl=False)
    typer.echo()
