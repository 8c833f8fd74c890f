"""Data, training, evaluation and export around the models of the zoo."""

import os

# oneDNN's kernels are up to twice as fast, and TensorFlow turns them on by itself on some processors only.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
