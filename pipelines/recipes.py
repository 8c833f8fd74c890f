"""Transfer recipes: pure functions that give the phases of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipelines.run import Phase


def feature_extraction(*, epochs: int = 5, learning_rate: float = 1e-3) -> tuple[Phase, ...]:
    """Train the head alone on frozen features."""
    return (Phase(epochs, learning_rate, unfreeze=1),)


def fine_tuning(
    *, epochs: int = 5, learning_rate: float = 1e-3, head_epochs: int = 2, layer_decay: float = 0.8
) -> tuple[Phase, ...]:
    """Train the head, then everything at a third of its rate, less by `layer_decay` for each group toward the input."""
    return (
        Phase(head_epochs, learning_rate, unfreeze=1),
        Phase(epochs, learning_rate / 3, unfreeze="all", layer_decay=layer_decay),
    )


def progressive_unfreezing(
    *, epochs: int = 2, learning_rate: float = 1e-3, groups: int = 4, rate_decay: float = 0.7, layer_decay: float = 0.8
) -> tuple[Phase, ...]:
    """Train the head, then one more group toward the input in each phase, `epochs` each.

    Every phase has its own learning rate, `rate_decay` times the one before.
    """
    return tuple(
        Phase(epochs, learning_rate * rate_decay**phase, unfreeze=phase + 1, layer_decay=layer_decay)
        for phase in range(groups)
    )


def from_scratch(*, epochs: int = 20, learning_rate: float = 1e-3) -> tuple[Phase, ...]:
    """Train everything from random weights, batch-norm statistics included."""
    return (Phase(epochs, learning_rate, unfreeze="all", batch_norm="train"),)


def lora(*, epochs: int = 5, learning_rate: float = 1e-3, rank: int = 8, mlp: bool = False) -> tuple[Phase, ...]:
    """Train the head, and low-rank factors of the attention of a transformer (LoRA); all else stays as it was.

    `mlp` adapts the dense layers after attention too. What is saved and exported is a plain model, the factors merged.
    """
    return (Phase(epochs, learning_rate, unfreeze="all", lora=rank, lora_mlp=mlp),)


def distill(*, epochs: int = 20, learning_rate: float = 1e-3, layer_decay: float = 1.0) -> tuple[Phase, ...]:
    """Train everything toward the answers of the teacher that Run(distillation=...) names, from any weights."""
    return (Phase(epochs, learning_rate, unfreeze="all", layer_decay=layer_decay, batch_norm="train"),)


def adversarial(*, epochs: int = 50, learning_rate: float = 2e-4) -> tuple[Phase, ...]:
    """Train the generator and the discriminator of a GAN from random weights, at the rate of DCGAN's authors.

    The weights of the last epoch are kept: no loss tells which are the best.
    """
    return (Phase(epochs, learning_rate, unfreeze="all", warmup=0.0, batch_norm="train"),)


RECIPES: Mapping[str, Callable[..., tuple[Phase, ...]]] = {
    recipe.__name__: recipe
    for recipe in (feature_extraction, fine_tuning, progressive_unfreezing, from_scratch, lora, distill, adversarial)
}
