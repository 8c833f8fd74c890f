"""Our step of training, as the loop of `zoo fit` takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from pipelines.engine import Engine
    from pipelines.run import Optimization, Phase


def engine(
    learner: keras.Model,
    phase: Phase,
    optimization: Optimization,
    *,
    loss: Any,
    metrics: Sequence[Any] = (),
    spec: Any,
    kind: Callable[..., Engine] | None = None,
) -> Engine:
    """What trains a model on batches like `spec`, with all that a phase has besides: groups, clipping, an average."""
    from pipelines import optimizer
    from pipelines.clipping import Clip
    from pipelines.ema import MovingAverage
    from pipelines.engine import Engine
    from pipelines.feed import example
    from pipelines.freezing import Freezer, find_groups, unfrozen

    groups = find_groups(learner)
    Freezer(learner, groups).__enter__().apply(phase)  # for as long as the process lives
    built = optimizer.build(learner, groups, phase, optimization, steps=10_000)
    learner.compile(built, loss=loss, weighted_metrics=list(metrics))
    learner._symbolic_build(data_batch=example(spec))
    variables = {
        name: [v for layer in groups[name] for v in layer.trainable_variables] for name in unfrozen(groups, phase)
    }
    average = MovingAverage(learner, optimization.ema) if optimization.ema else None
    return (kind or Engine)(learner, variables, clip=Clip.of(optimization), average=average)
