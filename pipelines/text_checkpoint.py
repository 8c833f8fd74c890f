"""What is known of a text model before it is built: its Config, and the folder where its tokenizer may lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from zoo.core.family import Family, HubMatch, Task
from zoo.core.registry import configure, families, find_family, load_family, variants
from zoo.layers.tokens import LearnedPositions
from zoo.weights import hub
from zoo.weights.locate import locate
from zoo.weights.read import open_tensors

USUAL_LENGTH = 512  # tokens


@dataclass(frozen=True, eq=False)
class Described:
    """A model by name, with the weights it is to have. `folder` holds them; None without weights.

    A checkpoint that is no longer there has neither family nor config: what a bundle was made from.
    """

    name: str
    family: Family | None = None
    config: Any = None
    folder: Path | None = None

    @property
    def vocabulary(self) -> int | None:
        """Its tokens."""
        return getattr(self.config, "vocabulary", getattr(self.config, "words", None))

    @property
    def limit(self) -> int | None:
        """The longest text it takes, in tokens; None where there is no limit."""
        return getattr(self.config, "text_length", getattr(self.config, "length", None))

    def task(self, asked: Task | None, *, labelled: bool) -> Task:
        """What texts are for: as asked, else what the model does first with texts with labels or without.

        Raises:
            ValueError: the model has no such task.
        """
        usual: tuple[Task, ...] = ("classify", "seq2seq", "tag") if labelled else ("causal_lm", "masked_lm")
        wanted = usual if asked is None else (asked,)
        fitting = [task for task in wanted if self.family is None or task in self.family.tasks]
        if not fitting:
            known = ", ".join(self.family.tasks) if self.family else ""
            what = "labels" if labelled else "no labels"
            raise ValueError(f"{self.name!r} has no task for texts with {what} ({', '.join(wanted)}). It has: {known}.")
        return fitting[0]


def describe(model: str, weights: str | None) -> Described:
    """The Config of a model with these weights, as their config.json says, and the folder they lie in.

    `model` is a variant's name, or a checkpoint as in Run.

    Raises:
        ValueError: there is no such model, or it takes no texts.
        FileNotFoundError: the weights are not there.
    """
    if "/" in model:
        path = locate(model)
        members = [load_family(name) for name in families()]
        found = [(family, match) for family in members if (match := _match(family, path)) is not None]
        if not found:
            return Described(model, folder=_folder(path))  # from_checkpoint says what is wrong with it
        return _with_tokens(Described(model, found[0][0], found[0][1].config, _folder(path)))
    family = find_family(model)
    config = family.variants[model]
    known = family.pretrained.get(weights or "") or family.pretrained.get(f"{model}.{weights}")
    if weights is None or weights.startswith("keras://"):
        return _with_tokens(Described(model, family, config))
    path = locate(known.uri if known else weights)
    match = _match(family, path)
    config = match.config if match else configure(config, **known.overrides) if known else config
    return _with_tokens(Described(model, family, config, _folder(path)))


def _match(family: Family, path: Path) -> HubMatch | None:
    """What the config.json beside a checkpoint describes, if it is of this family."""
    said = hub.read_config(_folder(path))
    return family.from_hub(said, open_tensors(path).shapes) if said and family.from_hub else None


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _with_tokens(described: Described) -> Described:
    if described.vocabulary is None:
        able = [name for name in variants() if hasattr(find_family(name).variants[name], "vocabulary")]
        raise ValueError(f"{described.name!r} takes no texts. Models that do: {', '.join(able)}.")
    return described


def limit_of(model: keras.Model) -> int | None:
    """The longest text that a model takes, in tokens, by its tables of positions; None where it has none."""
    tables = (layer for layer in model.layers if isinstance(layer, LearnedPositions))
    return min((layer.length for layer in tables if not layer.name.startswith("image.")), default=None)


def vocabulary_of(model: keras.Model) -> int | None:
    """The number of tokens in a model's table of tokens; None where none is called so."""
    tables = (layer for layer in model.layers if layer.name.rpartition(".")[2] == "stem_tokens")
    return min((layer.input_dim for layer in tables if hasattr(layer, "input_dim")), default=None)
