"""Who teaches a run's model, and how much of what is learned is the teacher's. As data."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.data import Texts
    from pipelines.run import Run

TEMPERATURE = 4.0
LABEL_SHARE = 0.1

Pairs = tuple[tuple[str, str], ...]  # layer groups of the student, each with one of the teacher


@dataclass(frozen=True)
class Distillation:
    """A teacher, whose answers the model of a run learns to give.

    With the temperature T, logits s of the student and t of the teacher, the loss of an example is

        label_share * (its loss) + (1 - label_share) * T**2 * KL(softmax(t / T) || softmax(s / T))

    as in https://arxiv.org/abs/1503.02531; of numbers, the second part is the run's own loss with the teacher's answer
    for the truth. With `features` there is added `feature_weight` times the mean squared distance between a learned
    linear projection of the output of a group of the student's layers and that of a group of the teacher's, the mean
    over all pairs; the teacher's is standardized over its channels at each place (https://arxiv.org/abs/2205.14141).
    The projections are no part of the student. Validation leaves the features out: the best epoch is that of the
    lowest loss of labels and answers. The test looks at labels alone.

    `teacher` is the folder of a finished run on the same classes; or a checkpoint with a config.json and the same head,
    hf://org/repo or a folder; or a variant's name, and `weights` one of its tags, a URI or a path.
    """

    teacher: str
    weights: str | None = None
    temperature: float = TEMPERATURE
    label_share: float = LABEL_SHARE
    features: bool | Pairs = False  # True: up to four pairs of groups, at like depths
    feature_weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "teacher", str(self.teacher))
        if not self.teacher:
            raise ValueError("Distillation(teacher='') names no teacher: give the folder of a finished run.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"Distillation(temperature={self.temperature}) must be over 0; 1 to 20 are usual.")
        if not 0 <= self.label_share <= 1:
            raise ValueError(f"Distillation(label_share={self.label_share}) must be 0 to 1, such as {LABEL_SHARE}.")
        if not 0 < self.feature_weight < math.inf:
            raise ValueError(f"Distillation(feature_weight={self.feature_weight}) must be over 0.")
        if not isinstance(self.features, bool):
            object.__setattr__(self, "features", _pairs(self.features))
        if self.label_share == 1 and not self.features:
            raise ValueError("Distillation(label_share=1) without features learns nothing of its teacher.")
        if self.feature_weight != 1 and not self.features:
            raise ValueError(f"Distillation(feature_weight={self.feature_weight}) needs features=True, or pairs.")

    @property
    def folder(self) -> Path | None:
        """The folder of the run that the teacher comes from; None where it comes from no run."""
        path = Path(self.teacher)
        return path if any((path / name).is_file() for name in ("bundle.json", "run.json")) else None

    def summary(self) -> str:
        """What was done, in a phrase for reports."""
        said = f"{self.label_share:g} of the loss from the labels, {1 - self.label_share:g} from its answers"
        said += f" at temperature {self.temperature:g}" if self.label_share < 1 else ""
        return said + (f", and {self.feature_weight:g} times the distance of features" if self.features else "")


def with_tokenizer(texts: Texts, run: Run) -> Texts:
    """The texts, with the tokenizer of the teacher's run where the student of it would have another one trained."""
    if run.distillation is None or texts.tokenizer or run.weights or run.is_checkpoint:
        return texts
    folder = run.distillation.folder
    found = folder / "tokenizer.json" if folder else None
    return dataclasses.replace(texts, tokenizer=str(found)) if found and found.is_file() else texts


def _pairs(given: Pairs) -> Pairs:
    """Pairs of names, from JSON lists too."""
    problem = isinstance(given, str)
    pairs = () if problem else tuple(tuple(pair) if isinstance(pair, list | tuple) else pair for pair in given)
    named = [
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(name, str) for name in pair) for pair in pairs
    ]
    if not pairs or not all(named):
        raise ValueError(
            f"Distillation(features={given!r}) must be True, False, or pairs of layer groups, the student's first: "
            "(('stage2', 'stage3'),)."
        )
    return pairs  # type: ignore[return-value]  # checked
