"""How a generator and a discriminator are trained against one another, as data; and what is usual for each GAN."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipelines.data import check_choice
from pipelines.optimization import Optimization

Game = Literal["non_saturating", "wasserstein", "hinge"]


@dataclass(frozen=True)
class Adversary:
    """What a generator plays against.

    `game` names both losses, as pipelines.objectives.adversarial has them. `gradient_penalty` is the weight of the
    penalty for slopes of the discriminator other than 1; 0: none. The generator learns after every `critic_steps`
    steps of the discriminator, each on a batch of its own. `discriminator_rate` is the learning rate of the
    discriminator as a multiple of the generator's, which is the phase's (https://arxiv.org/abs/1706.08500).

    Raises:
        ValueError: a value is out of range.
    """

    game: Game = "non_saturating"
    gradient_penalty: float = 0.0
    critic_steps: int = 1
    discriminator_rate: float = 1.0

    def __post_init__(self) -> None:
        check_choice("Adversary(game)", self.game, Game)
        ranges = {
            "gradient_penalty": (0 <= self.gradient_penalty < math.inf, "0 or more; 10 is usual where there is one"),
            "critic_steps": (
                type(self.critic_steps) is int and self.critic_steps >= 1,
                "a whole number of at least 1; 5 is usual for game='wasserstein'",
            ),
            "discriminator_rate": (0 < self.discriminator_rate < math.inf, "over 0, such as 1, 2 or 4"),
        }
        for name, (fine, allowed) in ranges.items():
            if not fine:
                raise ValueError(f"Adversary({name}={getattr(self, name)!r}) must be {allowed}.")

    def summary(self) -> str:
        """What was played, in a phrase for reports."""
        parts = [self.game.replace("_", "-")]
        parts += [f"gradient penalty {self.gradient_penalty:g}"] if self.gradient_penalty else []
        parts += [f"{self.critic_steps} discriminator steps a generator step"] if self.critic_steps > 1 else []
        parts += [f"discriminator at {self.discriminator_rate:g} x the rate"] if self.discriminator_rate != 1 else []
        return ", ".join(parts)


_USUAL: Mapping[str, Adversary] = {
    "gan_wgan_gp": Adversary("wasserstein", gradient_penalty=10.0, critic_steps=5),
    "gan_projection": Adversary("hinge", discriminator_rate=2.0),
}
_SHARP = Optimization(beta_1=0.0, beta_2=0.9, schedule="constant", ema=0.999)  # of WGAN-GP and later ones
_OPTIMIZATION: Mapping[str, Optimization] = {"gan_wgan_gp": _SHARP, "gan_projection": _SHARP}


def usual(model: str) -> Adversary:
    """What is usual for a variant; DCGAN's for those that are not known."""
    return _USUAL.get(model, Adversary())


def optimization(model: str) -> Optimization:
    """How a variant's weights are usually moved: Adam with its paper's betas, at one rate, and an averaged generator.

    `dataclasses.replace` changes a part of it.
    """
    return _OPTIMIZATION.get(model, dataclasses.replace(_SHARP, beta_1=0.5, beta_2=0.999))
