"""Published weights: find the file, read it, name its tensors, and assign all of them or none."""

from zoo.weights.errors import CheckpointError, WeightsMismatch

__all__ = ["CheckpointError", "WeightsMismatch"]
