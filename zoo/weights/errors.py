"""What can be wrong with a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint's file or config.json is damaged, unsafe or not understood. Nothing was loaded."""


class WeightsMismatch(CheckpointError):
    """A readable checkpoint whose tensors do not fit the model. Nothing was loaded."""
