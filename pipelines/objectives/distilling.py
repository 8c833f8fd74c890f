"""What a student has yet to learn of its teacher: the distance of their answers, and of their features.

keras.distillation has the same terms, and these are our own for what is wrong with them in Keras 3.15. By default, or
with any loss given by name, LogitsDistillation takes the logits themselves for probabilities: no softmax, no T**2. With
the object KLDivergence() it is right, but clips probabilities: of a class to which the student gives less than 1e-7 it
learns nothing. No loss there knows weights of examples or tokens, and the Distiller calls the student twice a step
where there are features. FeatureDistillation is right, of features of one shape.
"""

from __future__ import annotations

from keras import ops

from pipelines.objectives.losses import WeightedMean

_EPSILON = 1e-5  # beside the variance of features


class Divergence(WeightedMean):
    """T**2 * KL(softmax(t / T) || softmax(s / T)) of logits t of the teacher and s of the student, (B, ..., classes).

    T**2 makes its gradient as large as that of cross-entropy, whatever the temperature T.
    """

    def __init__(self, temperature: float):
        super().__init__("divergence")
        self._temperature = temperature

    def call(self, y_true, y_pred):
        logs, own = (ops.log_softmax(logits / self._temperature, axis=-1) for logits in (y_true, y_pred))
        return self._temperature**2 * ops.sum(ops.exp(logs) * (logs - own), axis=-1)


class BinaryDivergence(WeightedMean):
    """The same where each class is a question of its own, by the sigmoids of the logits: the mean over classes."""

    def __init__(self, temperature: float):
        super().__init__("binary_divergence")
        self._temperature = temperature

    def call(self, y_true, y_pred):
        teacher, student = y_true / self._temperature, y_pred / self._temperature
        parts = [
            ops.sigmoid(sign * teacher) * (ops.log_sigmoid(sign * teacher) - ops.log_sigmoid(sign * student))
            for sign in (1, -1)
        ]
        return self._temperature**2 * ops.mean(parts[0] + parts[1], axis=-1)


class SpanDivergence(Divergence):
    """The same over the tokens of a text, of logits (B, T, 2) of starts and ends: the mean of the two."""

    def call(self, y_true, y_pred):
        return ops.mean(super().call(*(ops.swapaxes(logits, 1, 2) for logits in (y_true, y_pred))), axis=-1)


class Given(WeightedMean):
    """Of losses (B, ...) that are known already; the other argument plays no part."""

    def __init__(self) -> None:
        super().__init__("given")

    def call(self, y_true, y_pred):
        return y_pred


def feature_distance(teacher, student):
    """The squared distance at each place, a mean over channels: (B, ..., C) and (B, ..., C) -> (B, ...).

    The teacher's features are standardized over their channels at each place first.
    """
    return ops.mean(ops.square(standardized(teacher) - student), axis=-1)


def standardized(features):
    """Features (B, ..., C) less their mean over C, over their standard deviation."""
    features = ops.cast(features, "float32")
    mean = ops.mean(features, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(features - mean), axis=-1, keepdims=True)
    return (features - mean) / ops.sqrt(variance + _EPSILON)
