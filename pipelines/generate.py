"""Text from a language model: greedy, by beam search or at random, token by token."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from reprlib import repr as short
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from pipelines import beams
from pipelines.guidance import Guidance, Guided
from pipelines.steps import Steps, WholePasses, cached_steps, padded
from pipelines.strategies import Beam, Chooser, Greedy, Strategy, strategy_of
from zoo.layers.decoding import Decoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Prompts = Sequence[str] | Sequence[Sequence[int]]


class Written(NamedTuple):
    """One token of one text, as it is written."""

    text: int  # the prompt's place in the list
    token: int
    piece: str  # what it adds to the text; empty without a tokenizer, and where a character is not whole yet


def generate(
    model: keras.Model,
    prompts: Prompts,
    *,
    new_tokens: int,
    strategy: Strategy | str = "greedy",
    stop: Collection[int | str] = (),
    tokenizer: Tokenizer | None = None,
    start: int = 0,
    inputs: Mapping[str, np.ndarray] | None = None,
    guidance: Guidance | None = None,
    batch: int | None = None,
    cached: bool = True,
) -> list[str] | list[list[int]]:
    """What the model writes after each prompt, without the prompt: texts for texts, token ids for token ids.

    At most `new_tokens` each, up to the first of the `stop` tokens, which is not part of it; these are ids, or with a
    tokenizer also tokens. `strategy` is greedy, sample or beam, or one of Greedy, Sample and Beam with options. An
    encoder-decoder model reads the prompt, and begins what it writes with `start`. `inputs` are other things that the
    model takes, by the names of its inputs, (N, ...) for N prompts. `guidance` pushes each text away from what would
    follow another prompt. What a prompt gets does not depend on the other prompts, nor on how many texts are written at
    a time, which are all unless `batch` says. `cached` off computes the same with a whole pass of the model for each
    token.

    Raises:
        ValueError: the model writes no text, a prompt is empty or too long, or an option is out of range.
    """
    options: dict[str, Any] = {"stop": stop, "tokenizer": tokenizer, "start": start, "inputs": inputs}
    job = _prepare(model, prompts, new_tokens=new_tokens, guidance=guidance, **options)
    chosen = strategy_of(strategy)
    if isinstance(chosen, Beam) and chosen.beams > 1:
        found = []
        for rows in _portions(job, batch):
            steps = _steps(model, job, rows, cached=cached)
            try:
                found += beams.search(steps, *job.some(rows), chosen, new_tokens=new_tokens, stop=job.stop)
            finally:
                steps.close()
    else:
        found = [[] for _ in job.texts]
        for written in _write(model, job, chosen, batch=batch, cached=cached):
            found[written.text].append(written.token)
    found = [text[:-1] if text and text[-1] in job.stop else text for text in found]
    if not job.are_texts or tokenizer is None:
        return found
    return [_added(tokenizer, before, text) for before, text in zip(job.before, found, strict=True)]


def _added(tokenizer: Tokenizer, before: list[int], tokens: list[int]) -> str:
    """What tokens add to the text of those before them: of most tokenizers the space between the two, too."""
    head, whole = tokenizer.decode(before), tokenizer.decode([*before, *tokens])
    return whole.removeprefix(head) if whole.startswith(head) else tokenizer.decode(tokens)


def stream(
    model: keras.Model,
    prompts: Prompts,
    *,
    new_tokens: int,
    strategy: Strategy | str = "greedy",
    stop: Collection[int | str] = (),
    tokenizer: Tokenizer | None = None,
    start: int = 0,
    inputs: Mapping[str, np.ndarray] | None = None,
    cached: bool = True,
) -> Iterator[Written]:
    """The tokens of `generate` as they are written, one of each text in turn, without stop tokens.

    Raises:
        ValueError: as `generate`, and for a beam search, which knows its text only at the end.
    """
    job = _prepare(model, prompts, new_tokens=new_tokens, stop=stop, tokenizer=tokenizer, start=start, inputs=inputs)
    chosen = strategy_of(strategy)
    if isinstance(chosen, Beam) and chosen.beams > 1:
        raise ValueError("A beam search knows its text only at the end, so it cannot be streamed. Use generate().")
    written = _write(model, job, chosen, cached=cached)
    return (one for one in written if one.token not in job.stop)


@dataclass(frozen=True)
class _Job:
    """What is to be written, checked."""

    prompts: list[list[int]]
    texts: list[list[int]]  # what the model goes on from: the prompts, or what its decoder starts with
    given: dict[str, np.ndarray]  # its other inputs
    new_tokens: int
    stop: frozenset[int]
    tokenizer: Tokenizer | None
    are_texts: bool
    guidance: Guidance | None

    def some(self, rows: slice) -> tuple[list[list[int]], dict[str, np.ndarray]]:
        """What some of the texts go on from, and the model's other inputs for them."""
        return self.texts[rows], {name: array[rows] for name, array in self.given.items()}

    @property
    def before(self) -> list[list[int]]:
        """What the reader has seen of each text already: the prompt, if the model goes on with it."""
        return self.prompts if self.texts is self.prompts else [[] for _ in self.texts]


def _steps(model: keras.Model, job: _Job, rows: slice, *, cached: bool) -> Steps:
    steps = cached_steps(model) if cached else WholePasses(model)
    guidance = job.guidance
    return steps if guidance is None else Guided(steps, guidance.scale, guidance.prompts[rows])


def _portions(job: _Job, batch: int | None) -> Iterator[slice]:
    """Which texts are written at a time."""
    if batch is not None and (type(batch) is not int or batch < 1):
        raise ValueError(f"batch={batch!r} must be a whole number over 0, or None for all texts at a time.")
    size = batch or len(job.texts)
    return (slice(start, start + size) for start in range(0, len(job.texts), size))


def _write(
    model: keras.Model, job: _Job, strategy: Strategy, *, batch: int | None = None, cached: bool
) -> Iterator[Written]:
    """Token by token, stop tokens included, until all texts have stopped."""
    if isinstance(strategy, Beam):  # a single beam is a greedy search
        strategy = Greedy(repetition_penalty=strategy.repetition_penalty)
    chooser = Chooser(strategy, job.prompts)
    for rows in _portions(job, batch):
        steps = _steps(model, job, rows, cached=cached)
        try:
            yield from _write_some(steps, job, rows, chooser)
        finally:
            steps.close()


def _write_some(steps: Steps, job: _Job, rows: slice, chooser: Chooser) -> Iterator[Written]:
    texts, given = job.some(rows)
    texts, first = [list(text) for text in texts], rows.start
    pieces = [_Pieces(job.tokenizer, before) for before in job.before[rows]]
    open_ = np.ones(len(texts), bool)
    logits = steps.begin(texts, given)
    for left in range(job.new_tokens - 1, -1, -1):
        tokens = np.zeros(len(texts), "int32")
        for row in np.flatnonzero(open_).tolist():
            token = tokens[row] = chooser.choose(first + row, logits[row], texts[row])
            texts[row].append(token)
            open_[row] = token not in job.stop
            yield Written(first + row, token, pieces[row].add(token))
        if not left or not open_.any():
            return
        logits = steps.extend(tokens)


class _Pieces:
    """What each token adds to a text; characters of several tokens come with the last."""

    def __init__(self, tokenizer: Tokenizer | None, before: list[int]):
        self.tokenizer = tokenizer
        if tokenizer is not None:
            from tokenizers.decoders import DecodeStream

            self.stream = DecodeStream(skip_special_tokens=True)
            for token in before:  # whose last word ends where the next one begins with a space
                self.stream.step(tokenizer, token)

    def add(self, token: int) -> str:
        return (self.stream.step(self.tokenizer, token) or "") if self.tokenizer is not None else ""


def _prepare(
    model: keras.Model,
    prompts: Prompts,
    *,
    new_tokens: int,
    stop: Collection[int | str],
    tokenizer: Tokenizer | None,
    start: int,
    inputs: Mapping[str, np.ndarray] | None,
    guidance: Guidance | None = None,
) -> _Job:
    decoder = cached_steps(model).decoder
    if type(new_tokens) is not int or new_tokens < 1:
        raise ValueError(f"new_tokens={new_tokens!r} must be a whole number over 0.")
    if isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"prompts={short(prompts)} must be a list of texts or of lists of token ids, at least one.")
    ids = [_ids(place, prompt, tokenizer, decoder) for place, prompt in enumerate(prompts)]
    given = _given(decoder, inputs or {}, len(ids))
    texts = ids
    if decoder.encodes:
        given |= padded(ids)
        texts = [[_token(start, decoder.vocabulary, "start")] for _ in ids]
    longest = max(map(len, texts))
    if decoder.length is not None and longest + new_tokens > decoder.length:
        raise ValueError(
            f"{model.name!r} takes {decoder.length} tokens: new_tokens={new_tokens} after a prompt of {longest} are "
            f"{longest + new_tokens}. Shorten the prompt, or ask for at most {max(0, decoder.length - longest)}."
        )
    ends = frozenset(_stop(token, tokenizer, decoder) for token in stop)
    guide = _guide(guidance, texts, decoder)
    return _Job(ids, texts, given, new_tokens, ends, tokenizer, isinstance(prompts[0], str), guide)


def _guide(guidance: Guidance | None, texts: list[list[int]], decoder: Decoder) -> Guidance | None:
    """Guidance that changes something, checked."""
    if guidance is None or guidance.scale == 1:
        return None
    if decoder.encodes:
        raise ValueError("Guidance is for models that go on with their prompt; this one reads it with an encoder.")
    prompts = [_ids(place, prompt, None, decoder) for place, prompt in enumerate(guidance.prompts)]
    if len(prompts) != len(texts) or any(len(one) > len(text) for one, text in zip(prompts, texts, strict=True)):
        raise ValueError(f"Guidance takes a prompt for each of the {len(texts)} texts, of no more tokens than it has.")
    return replace(guidance, prompts=prompts)


def _ids(place: int, prompt: str | Sequence[int], tokenizer: Tokenizer | None, decoder: Decoder) -> list[int]:
    """The token ids of a prompt."""
    if isinstance(prompt, str):
        if tokenizer is None:
            raise ValueError(f"Prompt {place}, {short(prompt)}, is a text; give tokenizer= too, or its token ids.")
        ids = tokenizer.encode(prompt, add_special_tokens=decoder.encodes).ids  # none ends what is to be gone on from
    else:
        ids = np.asarray(prompt).tolist()
        if not isinstance(ids, list):
            raise ValueError(f"Prompt {place}, {short(prompt)}, is no list of token ids. One prompt is a list of one.")
    if not ids:
        raise ValueError(f"Prompt {place}, {short(prompt)}, is empty: the model goes on from at least one token.")
    return [_token(token, decoder.prompts, f"prompt {place}") for token in ids]


def _token(token: object, vocabulary: int, where: str) -> int:
    if isinstance(token, bool) or not isinstance(token, int | np.integer) or not 0 <= token < vocabulary:
        raise ValueError(
            f"{where} has the token {short(token)}; those of this model are 0 to {vocabulary - 1:,}. "
            "Does the tokenizer belong to it?"
        )
    return int(token)


def _stop(token: int | str, tokenizer: Tokenizer | None, decoder: Decoder) -> int:
    if not isinstance(token, str):
        return _token(token, decoder.vocabulary, "stop")
    found = tokenizer.token_to_id(token) if tokenizer is not None else None
    if found is None:
        known = "it is no single token of the tokenizer" if tokenizer is not None else "there is no tokenizer"
        raise ValueError(f"stop={token!r} cannot end a text: {known}. Give token ids.")
    return _token(found, decoder.vocabulary, "stop")


def _given(decoder: Decoder, inputs: Mapping[str, np.ndarray], texts: int) -> dict[str, np.ndarray]:
    """What the user gives besides prompts, checked."""
    read = ("token_ids", "padding_mask") if decoder.encodes else ()
    taken = decoder.start.input if decoder.start is not None else {}
    wanted = [name for name in taken if name not in read]
    if sorted(wanted) != sorted(inputs):
        raise ValueError(f"Besides prompts this model takes inputs={sorted(wanted)}, got {sorted(inputs)}.")
    given = {name: np.asarray(array, taken[name].dtype) for name, array in inputs.items()}  # bytes of an image too
    for name, array in given.items():
        shape = (texts, *taken[name].shape[1:])
        if array.shape != shape:
            raise ValueError(f"inputs[{name!r}] has the shape {array.shape}; for {texts} prompts it must be {shape}.")
    return given
