"""The Frechet distance of two sets of feature vectors, each taken for a normal distribution.

Paper: https://arxiv.org/abs/1706.08500, where the features are those of Inception V3 and the distance is called FID.
Distances on other features, or of other numbers of examples, are not to be compared with one another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Moments:
    """Of so many feature vectors the mean (D,) and the covariance (D, D), float64."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, batches: np.ndarray | Iterable[np.ndarray]) -> Moments:
        """Those of feature vectors (N, D), given whole or in batches.

        Raises:
            ValueError: there are fewer than two vectors, or one holds what is no number.
        """
        parts = [batches] if isinstance(batches, np.ndarray) else list(batches)
        found = np.concatenate([np.asarray(part, np.float64) for part in parts]) if parts else np.zeros((0, 1))
        if found.ndim != 2 or len(found) < 2:
            raise ValueError(f"The spread of features is that of at least two vectors (N, D), got {found.shape}.")
        if not np.isfinite(found).all():
            raise ValueError(f"{np.sum(~np.isfinite(found).all(axis=1))} feature vectors hold what is no number.")
        mean = found.mean(axis=0)
        apart = found - mean
        return cls(len(found), mean, apart.T @ apart / (len(found) - 1))


def distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|**2 + tr(C1 + C2 - 2 (C1 C2)**(1/2)): 0 of the same distribution, never below.

    Raises:
        ValueError: the features are of different length.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"Features of {len(first.mean)} and {len(second.mean)} numbers cannot be compared.")
    root = _root(first.covariance)
    # The root of C1 C2 has the trace of that of a symmetric product, whose eigenvalues are real in any rounding.
    values = np.linalg.eigvalsh(root @ second.covariance @ root)
    both = np.sum(np.sqrt(np.clip(values, 0, None)))
    apart = first.mean - second.mean
    whole = apart @ apart + np.trace(first.covariance) + np.trace(second.covariance) - 2 * both
    return float(max(whole, 0.0))


def _root(matrix: np.ndarray) -> np.ndarray:
    """The square root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
