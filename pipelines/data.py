"""What a run trains on, as data: images, texts, tables, series or pairs, where they lie and how they are divided."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from pipelines.captioned import Pairs
from pipelines.choices import Augmentation, Split, check_choice, check_split

__all__ = [
    "AnyData", "Augmentation", "Images", "Pairs", "Series", "Split", "Tables", "Texts", "Tokenizer", "ValueLoss",
    "check_choice",
]  # fmt: skip

Tokenizer = Literal["wordpiece", "bpe", "unigram"]
ValueLoss = Literal["mse", "mae", "huber"]

_MOST_VIEWS = 1000
_LARGEST_BETA = 100  # above, images are mixed half and half: the shares differ by 0.05


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    """Names of columns; a single name is one, not its letters."""
    return (value,) if isinstance(value, str) else tuple(value)


@dataclass(frozen=True)
class Images:
    """Where labelled images come from, and how they are split and augmented.

    `source` is a folder with one sub-folder a class (or with train/, validation/ and test/ folders
    of that kind), a CSV file with the columns path and label (and, if you like, split), an .npz
    file with the arrays images and labels, "tfds:NAME", "digits" (scikit-learn's 1,797
    handwritten digits), or "fashion_mnist" (its four idx files, in `data_dir` or where Debian's package
    dataset-fashion-mnist puts them; else that of tfds). Models that make images need no labels: a folder may
    hold images alone, a CSV file the column path, an .npz file images.

    `train`, `validation` and `test` replace the source's own division: other folders or CSV files,
    or split expressions of a tfds set ("train[:80%]"). What is not given is split off by `split`,
    stratified by class and seeded by the run.

    An image has several labels, or none, where `label_delim` says what divides their names in the cell label of a CSV
    file, such as "|"; an empty cell is an image without any. Or `class_columns` names columns of 0 and 1, one a class,
    in place of label. In an .npz file labels are (N, classes) of 0 and 1, and the run's task says "multi_label".

    What is predicted are numbers, not classes, where `target` names their columns of a CSV file (or the columns of
    labels (N, targets) in an .npz file). What standardizes them is measured on the training split alone.

    With `views`, each image is augmented in so many ways, and epochs take them in turn: frozen layers then see each of
    them once (Hardware(cache=...)), and a longer training is no slower for them.

    `mixup` and `cutmix` mix each image of a training batch with another and their targets in the same shares, which
    come from a Beta distribution with these parameters, such as 0.2 and 1.0; with both, each batch is mixed one way
    or the other. `balance` has training draw each class equally often: of a rare one images again and again, of a
    frequent one others each epoch.
    """

    unit: ClassVar[str] = "images"  # what an example is called

    source: str
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    split: Split = (0.7, 0.15, 0.15)
    size: int | None = None  # pixels; the model's own if not given
    crop: float | None = None  # share of the image that the centre crop keeps; the model's own if not given
    augment: Augmentation = "light"
    flip: bool | None = None  # mirror left-right while training; not for the built-in sets unless asked
    skip_corrupt: bool = False
    data_dir: str | None = None  # where tfds sets lie, or the files of fashion_mnist
    views: int = 0  # of each image, augmented, that epochs take in turn; 0: others in every epoch
    balance: bool = False
    mixup: float = 0.0  # https://arxiv.org/abs/1710.09412; 0: none
    cutmix: float = 0.0  # https://arxiv.org/abs/1905.04899; 0: none
    label_delim: str | None = None  # between the names in a cell; None: a cell is one name
    class_columns: tuple[str, ...] = ()
    target: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_split("Images", self.split)
        check_choice("Images(augment)", self.augment, Augmentation)
        if type(self.views) is not int or not 0 <= self.views <= _MOST_VIEWS:
            raise ValueError(f"Images(views={self.views!r}) must be a whole number from 0 to {_MOST_VIEWS}, such as 4.")
        if not isinstance(self.balance, bool):
            raise ValueError(f"Images(balance={self.balance!r}) must be True or False.")
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST_BETA:
                raise ValueError(
                    f"Images({name}={value!r}) must be a number from 0 (none) to {_LARGEST_BETA}: the parameter of a "
                    "Beta distribution, such as 0.2 for mixup or 1.0 for cutmix."
                )
        if self.size is not None and not 8 <= self.size <= 4096:
            raise ValueError(f"Images(size={self.size}) must be between 8 and 4096 pixels.")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(f"Images(crop={self.crop}) must be over 0 and at most 1.")
        self._check_labels()

    def _check_labels(self) -> None:
        for name in ("class_columns", "target"):
            names = _names(getattr(self, name))
            object.__setattr__(self, name, names)
            if len(set(names)) < len(names) or not all(isinstance(each, str) and each for each in names):
                raise ValueError(f"Images({name}={names}) must hold names of columns, each once.")
        given = [name for name in ("label_delim", "class_columns", "target") if getattr(self, name)]
        if len(given) > 1:
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in given)
            raise ValueError(f"Images({values}): what is to be learned is given twice. Keep one of them.")
        if self.label_delim == "":
            raise ValueError("Images(label_delim='') divides nothing; give a mark such as '|', or a space.")

    @property
    def asks_for(self) -> Literal["classify", "multi_label", "regress"]:
        """The task that the options name; classification where they name none."""
        if self.target:
            return "regress"
        return "multi_label" if self.label_delim or self.class_columns else "classify"

    @property
    def mirrors(self) -> bool:
        """Whether training mirrors images: as asked, else unless they are digits, or clothes that all lie alike."""
        return self.source not in ("digits", "fashion_mnist") if self.flip is None else self.flip

    @classmethod
    def arrays(
        cls,
        images: np.ndarray,
        labels: Sequence[int] | Sequence[str] | np.ndarray,
        *,
        file: str | Path,
        classes: Sequence[str] | None = None,
        **options: Any,
    ) -> Images:
        """Images from arrays (N, H, W[, 1 or 3]) in 0..255 and labels (N,), kept in an .npz file.

        For a run of task="multi_label" labels are (N, classes) of 0 and 1; with `target` numbers (N,) or (N, targets).
        A run names its data by where they lie, so that it can be run again; `file` is where.
        """
        values = {"images": np.asarray(images), "labels": np.asarray(labels)}
        if classes is not None:
            values["classes"] = np.asarray(classes)
        np.savez_compressed(file, allow_pickle=False, **values)
        return cls(str(file), **options)


@dataclass(frozen=True)
class Texts:
    """Where texts come from, which of their columns are what, and how they become tokens.

    `source` is a CSV, TSV or JSONL file with named columns, a folder with one sub-folder of .txt files a class
    (or with train/, validation/ and test/ folders of that kind), or "tfds:NAME". `train`, `validation`, `test`
    and `split` are as in Images.

    What `label_column` holds hangs on the task: a class; for task="tag" a tag for each word of the text, separated by
    spaces; for "seq2seq" the text to write; for "answer" the answer, a part of the text, to the
    question in `second_column`. Language models need none.

    `tokenizer` is the checkpoint's own unless given: a tokenizer.json (a file, a directory, hf://org/repo), or
    "wordpiece", "bpe" (of bytes) or "unigram", trained on the training split to `vocabulary` tokens.
    """

    unit: ClassVar[str] = "texts"

    source: str
    text_column: str = "text"
    second_column: str | None = None  # a second text beside the first: a pair of sentences, a question
    label_column: str | None = "label"
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    split: Split = (0.7, 0.15, 0.15)
    length: int | None = None  # tokens; longer texts are cut; the model's own limit, at most 512, if not given
    tokenizer: str | Tokenizer | None = None
    vocabulary: int = 8_000  # tokens of a tokenizer that is trained
    lowercase: bool = True  # of a tokenizer that is trained
    data_dir: str | None = None  # where tfds sets lie

    def __post_init__(self) -> None:
        check_split("Texts", self.split)
        if self.length is not None and not 2 <= self.length <= 1_000_000:
            raise ValueError(f"Texts(length={self.length}) must be between 2 and 1,000,000 tokens.")
        if not 100 <= self.vocabulary <= 1_000_000:
            raise ValueError(f"Texts(vocabulary={self.vocabulary}) must be between 100 and 1,000,000 tokens.")

    @classmethod
    def lists(
        cls,
        texts: Sequence[str] | Sequence[tuple[str, str]],
        labels: Sequence[str] | None = None,
        *,
        file: str | Path,
        **options: Any,
    ) -> Texts:
        """Texts, or pairs of them, and their labels from lists, kept in a JSONL file.

        A run names its data by where they lie, so that it can be run again; `file` is where.
        """
        pairs = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
        names = ("text", "second")
        rows = [dict(zip(names, pair, strict=False)) for pair in pairs]
        if labels is not None:
            rows = [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]
        Path(file).write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
        second = "second" if any(len(pair) > 1 for pair in pairs) else None
        return cls(str(file), second_column=second, label_column=None if labels is None else "label", **options)


@dataclass(frozen=True)
class Tables:
    """Rows of numbers and categories, and the column to predict from the others.

    `source` is a CSV file with a header, or one of scikit-learn's tables: "iris", "wine", "breast_cancer",
    "diabetes". A column is categorical if it is named so or holds anything but numbers; empty cells are missing values.
    What standardizes the columns is measured on the training split alone, and becomes part of the model.
    """

    unit: ClassVar[str] = "rows"

    source: str
    target: str = "target"  # the column to predict
    categorical: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()  # columns left out, such as a row's number
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    split: Split = (0.7, 0.15, 0.15)

    def __post_init__(self) -> None:
        check_split("Tables", self.split)
        for name in ("categorical", "ignore"):
            object.__setattr__(self, name, _names(getattr(self, name)))


@dataclass(frozen=True)
class Series:
    """A time series, cut into windows of the past and the values that followed them.

    `source` is a CSV file with a header, a row a time step in order. The splits follow one another in
    time: training first, then validation, then test. No window reaches across from one into the
    values to predict of another, and what standardizes the columns is measured on the training split alone.
    """

    unit: ClassVar[str] = "windows"

    source: str
    target: tuple[str, ...]  # columns to predict
    columns: tuple[str, ...] = ()  # columns to predict from; the targets if none is given
    window: int = 24  # time steps seen
    horizon: int = 1  # time steps predicted
    stride: int = 1  # time steps from one window to the next
    split: Split = (0.7, 0.15, 0.15)

    def __post_init__(self) -> None:
        check_split("Series", self.split)
        for name in ("target", "columns"):
            object.__setattr__(self, name, _names(getattr(self, name)))
        if not self.target:
            raise ValueError("Series(target=()) names no column to predict.")
        if min(self.window, self.horizon, self.stride) < 1:
            raise ValueError(
                f"Series(window={self.window}, horizon={self.horizon}, stride={self.stride}) must be at least 1 each."
            )


AnyData = Images | Texts | Tables | Series | Pairs
