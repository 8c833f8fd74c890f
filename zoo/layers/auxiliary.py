"""A model whose auxiliary classifiers take part in its loss, and in nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import keras

WEIGHT = 0.3  # of each auxiliary loss, as in https://arxiv.org/abs/1409.4842


@keras.saving.register_keras_serializable("zoo")
class AuxiliaryModel(keras.Model):
    """A functional model that gives {"logits": ..., "auxiliary1": ..., ...}, and trains on plain labels (B,).

    Each auxiliary output adds 0.3 times its loss; metrics look at the logits alone. Labels in a dict are for those
    who compile losses and weights of their own for each output.
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of the logits, and that of each auxiliary output by its weight."""
        if isinstance(y, Mapping):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        total = super().compute_loss(x, y, y_pred["logits"], sample_weight, training)
        for name, auxiliary in y_pred.items():
            if name != "logits":
                total += WEIGHT * self._compile_loss(y, auxiliary, sample_weight)
        return total

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics of the logits."""
        return super().compute_metrics(x, y, y_pred if isinstance(y, Mapping) else y_pred["logits"], sample_weight)


def without_auxiliary(model: keras.Model) -> keras.Model:
    """The model of the logits alone, its layers shared; any other model comes back as it is."""
    if not isinstance(model, AuxiliaryModel):
        return model
    return keras.Model(model.input, model.output["logits"], name=model.name)
