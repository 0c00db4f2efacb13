"""What names a problem, checked for what goes together; and what a problem is."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sketchprune import laws

OBJECTIVES: dict[str, tuple[str, ...]] = {
    "linear": ("linear-error", "training-error"),
    "mlp": ("initial-loss", "trained-loss", "ntk-error"),
    "lenet": ("initial-loss", "trained-loss", "ntk-error"),
}
"""Objectives available for each model; the first is the default."""
PROBABILITIES = ("optimal", "data-free", "uniform")
"""What the law of masks is in proportion to."""
DELTA = 0.01
"""The failure rate of the tail bounds."""


@dataclass(frozen=True)
class Setting:
    """What names a problem; the command has options of the same names.

    Attributes:
        data: the name of the data set, for messages.
        model: a key of ``OBJECTIVES``.
        law: a key of :data:`sketchprune.laws.LAWS`, of a law that can be made from sizes; see :func:`law_names`.
        probabilities: one of ``PROBABILITIES``: optimal for the sketch (‖x_i‖|w_i| of a linear model, the column norms
            of a network's tangent kernel), the sizes of the weights, or all equal.
        binary: 0/1 masks in place of reweighted ones.
        objective: one of the model's.
        density: the fraction of prunable weights that masks keep, or draw.
        steps: how many steps of training the objective makes; None where it makes none, or trains to convergence.
        step_size: the size of these steps; None where there are none.
        seed: what weights and samples derive from.
    """

    data: str
    model: str
    law: str
    probabilities: str
    binary: bool
    objective: str
    density: float
    steps: int | None
    step_size: float | None
    seed: int


@dataclass(frozen=True)
class DirectMask:
    """A mask that was found without random masks, to compare the best of these with.

    Attributes:
        name: what it is called, such as "optimum".
        kind: what kind of mask it is, such as "a 0/1 mask of at most 6 weights".
        mask: the mask.
        value: its objective.
        bound: no mask of its kind has a smaller objective; None where nothing is proved.
    """

    name: str
    kind: str
    mask: Any
    value: float
    bound: float | None = None

    @property
    def proved(self) -> bool:
        """Whether it is the best of its kind."""
        return self.bound == self.value


@dataclass(frozen=True)
class Problem:
    """What is searched, in float32: a law and an objective, and what else is known of them.

    Attributes:
        law: key -> mask, or a law of :mod:`sketchprune.laws`.
        objective: mask -> number.
        objective_float64: the same objective in float64, for use under x64; None where there is none.
        keep: how many weights masks keep, or draw; in expectation where their number is random. None where not known,
            as for the next two.
        weights: the number of prunable weights.
        density: the realised density, the fraction of prunable weights that masks keep on average.
        theory: what theory says of this law and objective, by name: "expectation" or "expectation at most", and the
            value that all but a fraction ``DELTA`` of masks stay under, by the name of the bound.
        zero_mask: keeps nothing that may be pruned; a search has to find something better. None where there is none.
        direct_masks: finds masks without random ones, where a method is known.
    """

    law: Any
    objective: Callable[[Any], Any]
    objective_float64: Callable[[Any], Any] | None = None
    keep: int | None = None
    weights: int | None = None
    density: float | None = None
    theory: dict[str, float] = field(default_factory=dict)
    zero_mask: Any = None
    direct_masks: Callable[[], tuple[DirectMask, ...]] = tuple


def law_names() -> tuple[str, ...]:
    """The laws that a setting may name: those of :data:`sketchprune.laws.LAWS` that can be made from sizes."""
    return tuple(name for name, law in laws.LAWS.items() if hasattr(law, "proportional"))


def completed(setting: Setting) -> Setting:
    """The setting with the default steps and step size of its objective.

    Args:
        setting: steps and step size may be None.

    Returns:
        The setting. Steps stay None where the objective makes none, or trains to convergence.

    Raises:
        ValueError: for what does not go together.
    """
    _check(setting)
    if setting.objective == "trained-loss":
        return replace(
            setting,
            steps=50 if setting.steps is None else setting.steps,
            step_size=0.01 if setting.step_size is None else setting.step_size,
        )
    if setting.steps is not None and setting.step_size is None:
        return replace(setting, step_size=1.0)
    return setting


def _check(setting: Setting) -> None:
    """Refuses what is out of range, and what does not go together."""
    _one_of("model", setting.model, tuple(OBJECTIVES))
    _one_of("law", setting.law, law_names())
    _one_of("probabilities", setting.probabilities, PROBABILITIES)
    _one_of("objective", setting.objective, OBJECTIVES[setting.model], f" for the model {setting.model}")
    if not 0 < setting.density <= 1:
        raise ValueError(f"density is {setting.density:g}; it takes a number in (0, 1]")
    if setting.steps is not None and not 0 <= setting.steps < 2**31:
        raise ValueError(f"steps is {setting.steps}; it takes a whole number from 0 to 2^31 - 1")
    if setting.step_size is not None and not 0 < setting.step_size < math.inf:
        raise ValueError(f"step-size is {setting.step_size:g}; it takes a finite number > 0")
    _check_that_all_matters(setting)


def _check_that_all_matters(setting: Setting) -> None:
    """Refuses what would change nothing."""
    if setting.objective not in ("training-error", "trained-loss"):
        for name, value in (("steps", setting.steps), ("step-size", setting.step_size)):
            if value is not None:
                raise ValueError(
                    f"{name} is {value} with the objective {setting.objective}, which trains nothing; "
                    "it takes training-error or trained-loss"
                )
    if setting.objective == "training-error" and setting.steps is None and setting.step_size is not None:
        raise ValueError(
            f"step-size is {setting.step_size:g} without steps, where training goes on to convergence; it takes --steps"
        )
    if setting.objective == "training-error" and setting.binary:
        raise ValueError(
            "binary is True with the objective training-error, which depends only on what a mask keeps; "
            "it takes False, or the objective linear-error"
        )


def _one_of(name: str, value: str, choices: tuple[str, ...], condition: str = "") -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value}{condition}; it takes {' or '.join(choices)}")
