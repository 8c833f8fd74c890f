"""What a run is for and how it is done, where it does not say: the model decides where the data alone cannot."""

from __future__ import annotations

import dataclasses

from pipelines import adversary
from pipelines.image_labels import UNLABELLED
from pipelines.optimization import USUAL, Optimization
from pipelines.run import Images, Run
from zoo.core import registry
from zoo.core.family import Task


def usual_task(model: str) -> Task | None:
    """The task that a named model is for, if its data may be for another; None where the data say it."""
    if "/" in model:
        return None
    tasks = registry.find_family(model).tasks
    return tasks[0] if tasks[0] in UNLABELLED else None


def usual_optimization(model: str) -> Optimization:
    """How the weights of a model are usually moved."""
    return adversary.optimization(model) if usual_task(model) == "generate" else USUAL


def settled(run: Run) -> Run:
    """The run with what it leaves open: its task, and how a GAN is trained. Once more changes nothing.

    Raises:
        ValueError: there is no such model, or what it says is not for its task.
    """
    if run.task is None and isinstance(run.data, Images) and run.data.asks_for == "classify":
        run = dataclasses.replace(run, task=usual_task(run.model))
    if run.task in UNLABELLED and isinstance(run.data, Images) and run.data.augment == "light":
        # what is made looks like what was shown: other colors would be learned too
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, augment="none"))
    if run.task != "generate":
        if run.adversary is not None:
            raise ValueError(f"Run(adversary=...) is for GANs, task='generate', not for {run.model!r}.")
        return run
    return _against_an_adversary(run)


def _against_an_adversary(run: Run) -> Run:
    chosen = run.adversary or adversary.usual(run.model)
    for phase in run.phases:
        if phase.unfreeze != "all" or phase.lora:
            raise ValueError(
                "A GAN is trained as a whole, since generator and discriminator keep up with one another: "
                "Phase(unfreeze='all'), as in the recipe adversarial."
            )
    if run.hardware.accumulate > 1:
        raise ValueError("A GAN's batches are not divided: set Hardware(accumulate=1), and a smaller batch.")
    if run.optimization.schedule == "plateau":
        raise ValueError("Optimization(schedule='plateau') waits for a loss to fall, and those of a GAN do not.")
    phases = tuple(dataclasses.replace(each, discriminator_rate=chosen.discriminator_rate) for each in run.phases)
    moved = adversary.optimization(run.model) if run.optimization == USUAL else run.optimization
    return dataclasses.replace(run, adversary=chosen, phases=phases, optimization=moved)
