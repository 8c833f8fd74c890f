"""A model with its teacher: one graph to train, of which the student's layers alone are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from pipelines import feature_pairs
from pipelines.distillation import LABEL_SHARE, TEMPERATURE, Pairs
from pipelines.feature_pairs import Pair, distance
from pipelines.objectives import distilling
from pipelines.objectives.losses import BinaryCrossEntropy, Deviation, SpanCrossEntropy, within
from pipelines.objectives.objective import WeightedMetric
from pipelines.parts import of_any
from zoo.layers.auxiliary import without_auxiliary
from zoo.layers.pixels import PixelInput

PROJECTION = "head_projection"  # and a number: the layers that are thrown away


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a student learns from. It is no layer, so that Keras takes the teacher for no part of the student.

    `answers` is the teacher with the outputs that are looked at: the answer, and features by the numbers of the pairs.
    """

    student: keras.Model
    answers: keras.Model
    temperature: float
    label_share: float
    feature_weight: float
    pairs: tuple[Pair, ...]

    def answer(self, inputs: Any) -> dict[str, tf.Tensor]:
        """What the teacher says of a batch of the student, in inference; images are resized to those it takes."""
        return of_any(self._answer, inputs)

    def _answer(self, inputs: Any) -> dict[str, tf.Tensor]:
        wanted = self.answers.input
        if isinstance(wanted, Mapping):
            inputs = {name: inputs[name] for name in wanted}
        elif _takes_pixels(self.answers) and tuple(inputs.shape[1:3]) != tuple(wanted.shape[1:3]):
            inputs = tf.image.resize(tf.cast(inputs, tf.float32), wanted.shape[1:3], antialias=True)
        return {name: tf.stop_gradient(value) for name, value in self.answers(inputs, training=False).items()}


@keras.saving.register_keras_serializable("zoo")
class Taught(keras.Model):
    """A functional model that gives {"answer": the student's, "0": projected features, ...}, and learns a lesson.

    Its loss is that of Distillation, in evaluation without the features. The metric is "agreement", the
    share of answers that are the teacher's too, or, of numbers, "teacher_mae".
    """

    lesson: Lesson

    def learn(self, lesson: Lesson) -> None:
        """Take a lesson, from the next step on; in the scope of the model's strategy."""
        self.lesson = lesson
        self._alike, self._apart = (WeightedMetric(_given, name) for name in ("agreement", "teacher_mae"))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those that were compiled, and that of the likeness to the teacher."""
        other = self._alike if self._of_numbers else self._apart
        return [metric for metric in super().metrics if metric is not other]

    @property
    def _of_numbers(self) -> bool:
        return isinstance(getattr(self, "loss", None), Deviation)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of a batch: of labels and the teacher's answers, and in training of its features too."""
        answer, lesson = y_pred["answer"], self.lesson
        taught = lesson.answer(x)
        metric = self._apart if self._of_numbers else self._alike
        metric.update_state(None, _likeness(self.loss, y, taught["answer"], answer), sample_weight)
        total = tf.zeros(())
        if lesson.label_share:
            total += lesson.label_share * super().compute_loss(x, y, answer, sample_weight, training)
        if lesson.label_share < 1:
            total += (1 - lesson.label_share) * self._divergence(y, taught["answer"], answer, sample_weight)
        if lesson.pairs and training:
            distances = [
                distance(pair, taught[str(number)], y_pred[str(number)], x, sample_weight)
                for number, pair in enumerate(lesson.pairs)
            ]
            total += lesson.feature_weight * tf.reduce_mean(tf.stack(distances))
        return total

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics of the student's answer."""
        return super().compute_metrics(x, y, y_pred["answer"], sample_weight)

    def save_weights(self, filepath, overwrite=True, **options):
        """Write the student's weights."""
        self.lesson.student.save_weights(filepath, overwrite=overwrite, **options)

    def _divergence(self, y, teacher, student, weights) -> tf.Tensor:
        """How far the student's answer is from the teacher's."""
        temperature = self.lesson.temperature
        match self.loss:
            case Deviation():
                return self.loss(teacher, student, weights)
            case BinaryCrossEntropy():
                return distilling.BinaryDivergence(temperature)(teacher, student, weights)
            case SpanCrossEntropy():
                return distilling.SpanDivergence(temperature)(within(y, teacher), within(y, student), weights)
            case _:
                return distilling.Divergence(temperature)(teacher, student, weights)

    def likeness(self, batches: tf.data.Dataset) -> dict[str, float]:
        """The metric that tells how near the student is to its teacher, over all batches, by its name."""
        metric = WeightedMetric(_given, "teacher_mae" if self._of_numbers else "agreement")
        call = tf.function(
            lambda inputs: (self(inputs, training=False)["answer"], self.lesson.answer(inputs)["answer"])
        )
        for batch in batches:
            inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(batch)
            student, teacher = call(inputs)
            metric.update_state(None, _likeness(self.loss, targets, teacher, student), weights)
        return {metric.name: float(metric.result())}


def taught(
    student: keras.Model,
    teacher: keras.Model,
    *,
    temperature: float = TEMPERATURE,
    label_share: float = LABEL_SHARE,
    features: bool | Pairs = False,
    feature_weight: float = 1.0,
) -> Taught:
    """A model to give to `pipelines.train.fit` in the student's stead; the layers that learn are the student's own.

    The options are those of Distillation. Make it in the scope of the student's strategy. The teacher may be any
    functional model that takes what the student takes, and answers in the same form; it is not changed. The student's
    auxiliary classifiers have no part in it.

    Raises:
        ValueError: the two do not take or give the same, or have no such groups.
    """
    student = without_auxiliary(student)
    inputs = _inputs(student, teacher)
    ours, theirs = (model.output.shape for model in (student, teacher))
    if isinstance(student.output, Mapping) or isinstance(teacher.output, Mapping) or ours != theirs:
        raise ValueError(f"{student.name!r} gives {_shapes(student.output)}, its teacher {_shapes(teacher.output)}.")
    pairs = feature_pairs.choose(student, teacher, features)
    taps, watched = (feature_pairs.taps(model) for model in (student, teacher))
    outputs, answers = {"answer": student.output}, {"answer": teacher.output}
    for number, pair in enumerate(pairs):
        width = watched[pair.teacher].shape[-1]
        project = layers.Dense(width, dtype="float32", name=f"{PROJECTION}{number}")
        outputs[str(number)], answers[str(number)] = project(taps[pair.student]), watched[pair.teacher]
    model = Taught(inputs, outputs, name=student.name)
    observed = keras.Model(teacher.input, answers, name="teacher")
    model.learn(Lesson(student, observed, temperature, label_share, feature_weight, pairs))
    return model


def _inputs(student: keras.Model, teacher: keras.Model) -> Any:
    """What both take; what the teacher alone takes is an input of its own.

    Raises:
        ValueError: they take different things.
    """
    ours, theirs = student.input, teacher.input
    if not isinstance(ours, Mapping) and not isinstance(theirs, Mapping):
        resized = _takes_pixels(student) and _takes_pixels(teacher) and ours.shape[-1] == theirs.shape[-1]
        if ours.shape == theirs.shape or resized:
            return ours
    elif isinstance(ours, Mapping) and isinstance(theirs, Mapping) and not set(ours) - set(theirs) - {"segment_ids"}:
        more = {
            name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
            for name, tensor in theirs.items()
            if name not in ours
        }
        if set(more) <= {"segment_ids"}:
            return {**ours, **more}
    raise ValueError(f"{student.name!r} takes {_shapes(ours)}, its teacher {_shapes(theirs)}: they need the same.")


def _takes_pixels(model: keras.Model) -> bool:
    return any(isinstance(layer, PixelInput) for layer in model.layers)


def _shapes(tensors: Any) -> str:
    named = tensors if isinstance(tensors, Mapping) else {"": tensors}
    return ", ".join(f"{name} {tuple(tensor.shape)}".strip() for name, tensor in named.items())


def _likeness(loss: Any, y: Any, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """1 where two answers are the same, and 0 where not; of numbers, the distance of the two."""
    if isinstance(loss, Deviation):
        return ops.abs(teacher - student)
    if isinstance(loss, BinaryCrossEntropy):
        return ops.cast(ops.equal(teacher > 0, student > 0), "float32")
    if isinstance(loss, SpanCrossEntropy):
        found = [ops.argmax(within(y, logits), axis=1) for logits in (teacher, student)]
    else:
        found = [ops.argmax(logits, axis=-1) for logits in (teacher, student)]
    return ops.cast(ops.equal(*found), "float32")


def _given(_, values):
    return values
