"""Named problems: what ``sketchprune search`` searches, and what theory says of it.

A :class:`Setting` names a model on data, a law of masks and an objective; :func:`problem` makes them.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from sketchprune import data, kernels, laws, linalg, masks, models, sketch, train
from sketchprune.data import Dataset
from sketchprune.search import objectives
from sketchprune.search.objectives import Objective
from sketchprune.types import ApplyFn, Key, Mask, Params

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
_NUM_SAMPLES = {"initial-loss": 256, "trained-loss": 256, "ntk-error": 16}
"""How many samples of the data each objective of a network uses."""


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
        steps: of training; None where the objective is made without.
        step_size: of training; None where the objective is made without.
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
class Problem:
    """A problem in float32.

    Attributes:
        law: key -> mask.
        objective: mask -> number.
        objective_float64: the same objective in float64, for use under x64.
        keep: how many weights masks keep, or draw; in expectation where their number is random.
        weights: the number of prunable weights.
        theory: what theory says of this law and objective, by name: "expectation" or "expectation at most", and the
            value that all but a fraction ``DELTA`` of masks stay under, by the name of the bound.
        zero_mask: keeps nothing that may be pruned; a search has to find something better.
    """

    law: Callable[[Any], Any]
    objective: Callable[[Any], Any]
    objective_float64: Callable[[Any], Any]
    keep: int
    weights: int
    theory: dict[str, float]
    zero_mask: Any


def law_names() -> tuple[str, ...]:
    """The laws that a setting may name: those of :data:`sketchprune.laws.LAWS` that can be made from sizes."""
    return tuple(name for name, law in laws.LAWS.items() if hasattr(law, "proportional"))


def completed(setting: Setting) -> Setting:
    """The setting with the default steps and step size of its objective.

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


def problem(setting: Setting, dataset: Dataset) -> Problem:
    """The problem that a completed setting names.

    Args:
        setting: from :func:`completed`.
        dataset: the data that it names.

    Raises:
        ValueError: for a density that keeps nothing, data that give every weight the size 0, and a law that has no 0/1
            masks of its own where ``binary`` asks for them.
    """
    return (_linear if setting.model == "linear" else _network)(setting, dataset)


def rounding_error(problem: Problem, masks: Mask, values: Float[np.ndarray, "best"]) -> float:
    """The largest relative error of values in float32 against the same objective in float64.

    Args:
        problem: what was searched.
        masks: masks, stacked on a leading axis.
        values: their objectives, as the search found them.

    Returns:
        One number; NaN for no masks.
    """
    if not len(values):
        return math.nan
    with jax.enable_x64(True):
        every = jax.jit(lambda stacked: jax.lax.map(problem.objective_float64, stacked))
        exact = np.asarray(every(masks))
    scale = np.where(exact == 0, 1, np.abs(exact))
    return float(np.max(np.abs(values - exact) / scale))


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


# --- linear models


class _LinearModel(NamedTuple):
    x: Float[Array, "n d"]
    y: Float[Array, "n"]
    w: Float[Array, "d"]


def _linear(setting: Setting, dataset: Dataset) -> Problem:
    model = _linear_model(setting, dataset)
    law, keep = _law(setting, _linear_sizes(setting, model))
    objective = functools.partial(_linear_objective, setting, model, _max_kept(law))
    return Problem(
        law=law.sample,
        objective=objective(jnp.float32),
        objective_float64=lambda mask: objective(jnp.float64)(mask),
        keep=keep,
        weights=model.w.size,
        theory=_linear_theory(setting, model, law),
        zero_mask=jnp.zeros_like(model.w),
    )


def _linear_model(setting: Setting, dataset: Dataset) -> _LinearModel:
    """Standardised features, the first class against the others, and Gaussian weights."""
    images = jnp.asarray(dataset.x.reshape(len(dataset.x), -1), jnp.float32)
    x, hot = linalg.compress(data.standardise(images), data.one_hot(dataset.y, dataset.num_classes))
    x, y = x.astype(jnp.float32), (2 * hot[:, 0] - hot.sum(axis=1)).astype(jnp.float32)
    return _LinearModel(x, y, jax.random.normal(jax.random.key(setting.seed), (x.shape[1],), jnp.float32))


def _linear_sizes(setting: Setting, model: _LinearModel) -> Float[Array, "d"]:
    """What the law is in proportion to; 0 for zero columns, which would take a draw and change nothing."""
    sizes = {
        "optimal": sketch.magnitudes(model.x, model.w),
        "data-free": abs(model.w),
        "uniform": jnp.ones_like(model.w),
    }
    return jnp.where(jnp.any(model.x != 0, axis=0), sizes[setting.probabilities], 0)


def _linear_objective(setting: Setting, model: _LinearModel, max_kept: int | None, dtype: Any) -> Objective:
    x, y, w = (jnp.asarray(part, dtype) for part in model)
    if setting.objective == "linear-error":
        return objectives.linear_error(x, w)
    if setting.steps is None or setting.step_size is None:
        return objectives.training_error(x, y, keep=max_kept)
    # The step size is relative to 1/λ_max, at which gradient descent is stable for any mask.
    step_size = setting.step_size / float(jnp.linalg.norm(model.x, 2)) ** 2
    return objectives.training_error(x, y, keep=max_kept, steps=setting.steps, step_size=step_size)


def _linear_theory(setting: Setting, model: _LinearModel, law: Any) -> dict[str, float]:
    """The expectation of the objective, and what it exceeds with probability DELTA at most."""
    if setting.objective == "training-error":
        if setting.steps is not None or not hasattr(law, "training_bound"):
            return {}
        return _with_markov({"expectation at most": law.training_bound(model.x, model.y)})
    found = _expectation(law, sketch.linear_items(model.x, model.w))
    return _with_markov(found | _multinomial_tail(setting, model, law))


def _multinomial_tail(setting: Setting, model: _LinearModel, law: Any) -> dict[str, Array]:
    """The tail bound on the error of an unbiased multinomial sketch; nothing for another law."""
    if not isinstance(law, laws.Multinomial) or law.binary:
        return {}
    x, w = model.x, model.w
    if setting.probabilities == "optimal":
        return {"McDiarmid": sketch.mcdiarmid_tail(x, w, law.budget, DELTA) ** 2}
    beta = sketch.near_optimality(sketch.optimal_probabilities(x, w), law.probabilities)
    return {"Drineas, Kannan and Mahoney": sketch.dkm_tail(x, w, law.budget, DELTA, beta=beta) ** 2}


# --- networks


class _Network(NamedTuple):
    """A network and its data.

    Attributes:
        apply: the network as the tangent kernel reads it.
        run: the same network as it runs fastest.
        params: its parameters.
        x: inputs.
        y: labels.
    """

    apply: ApplyFn
    run: ApplyFn
    params: Params
    x: Float[Array, "n ..."]
    y: Array

    def prunable(self, tree: PyTree) -> list[Array]:
        """The leaves that may be pruned, of a tree like the parameters."""
        chosen = jax.tree.leaves(masks.prunable(self.params))
        return [leaf for leaf, prune in zip(jax.tree.leaves(tree), chosen, strict=True) if prune]

    def with_prunable(self, tree: PyTree, leaves: list[Array]) -> PyTree:
        """A tree like the parameters, with these leaves in place of those that may be pruned."""
        given = iter(leaves)
        return jax.tree.map(lambda leaf, prune: next(given) if prune else leaf, tree, masks.prunable(self.params))


def _network(setting: Setting, dataset: Dataset) -> Problem:
    network = _network_model(setting, dataset)
    law, keep = _law(setting, network.prunable(_network_sizes(setting, network)))
    weights = network.prunable(network.params)
    all_ones = jax.tree.map(jnp.ones_like, network.params)

    def mask(key: Key) -> Mask:
        return network.with_prunable(all_ones, law.sample(key))

    objective = functools.partial(_network_objective, setting, network)
    return Problem(
        law=mask,
        objective=objective(jnp.float32),
        objective_float64=lambda mask: objective(jnp.float64)(mask),
        keep=keep,
        weights=sum(leaf.size for leaf in weights),
        theory=_network_theory(setting, network, law),
        zero_mask=network.with_prunable(all_ones, [jnp.zeros_like(leaf) for leaf in weights]),
    )


def _network_model(setting: Setting, dataset: Dataset) -> _Network:
    rng = np.random.default_rng(setting.seed)
    count = min(len(dataset.x), _NUM_SAMPLES[setting.objective])
    chosen = rng.choice(len(dataset.x), count, replace=False)
    pixels = (dataset.images if setting.model == "lenet" else dataset.x)[chosen]
    x = jnp.asarray(pixels / (np.abs(dataset.x).max() or 1), jnp.float32)
    y = jnp.asarray(dataset.y[chosen], jnp.int32)
    model = fastest = models.mlp(64, 64, dataset.num_classes)
    if setting.model == "lenet":
        # Many masks are convolutions with many kernels, which in loops are slow on a CPU; as products of patches they
        # are not. The tangent kernel needs to see convolutions.
        model, fastest = (models.lenet(dataset.num_classes, patches=patches) for patches in (False, True))
    apply, params = models.initial(model, jax.random.key(setting.seed), x)
    run, _ = models.initial(fastest, jax.random.key(setting.seed), x)
    return _Network(apply, run, params, x, y)


def _network_sizes(setting: Setting, network: _Network) -> PyTree:
    """What the law is in proportion to."""
    if setting.probabilities == "optimal":
        return kernels.column_norms(network.apply, network.params, network.x[: _NUM_SAMPLES["ntk-error"]])
    return jax.tree.map(jnp.abs if setting.probabilities == "data-free" else jnp.ones_like, network.params)


def _network_objective(setting: Setting, network: _Network, dtype: Any) -> Objective:
    x = jnp.asarray(network.x, dtype)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), network.params)
    if setting.objective == "ntk-error":
        return objectives.ntk_error(network.apply, params, x)
    loss, batch = train.cross_entropy, (x, network.y)
    if setting.objective == "initial-loss":
        return objectives.initial_loss(network.run, loss, params, batch)
    assert setting.steps is not None and setting.step_size is not None
    return objectives.trained_loss(network.run, loss, params, batch, optax.adam(setting.step_size), setting.steps)


def _network_theory(setting: Setting, network: _Network, law: Any) -> dict[str, float]:
    """The expectation of the tangent kernel's error under a reweighted mask; nothing is known of the losses."""
    if setting.objective != "ntk-error" or setting.binary:  # the error of 0/1 masks takes all pairs of weights
        return {}
    return _with_markov(_expectation(law, _tangent_items(network)))


def _tangent_items(network: _Network) -> laws.Items:
    """The items J_iJ_iᵀ of the prunable weights."""
    every = kernels.ntk_items(network.apply, network.params, network.x)
    zeros = jax.tree.map(jnp.zeros_like, network.params)
    prunable = jax.tree.map(
        lambda leaf, prune: np.full(leaf.shape, prune), network.params, masks.prunable(network.params)
    )

    def combination(coefficients: list[Array]) -> Float[Array, ""]:
        return every.combination(network.with_prunable(zeros, coefficients))

    def gram() -> Float[Array, "d d"]:
        chosen = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(prunable)])
        return every.gram()[chosen][:, chosen]

    return laws.Items(network.prunable(every.squares), combination, gram)


# --- laws


def _law(setting: Setting, sizes: PyTree) -> tuple[Any, int]:
    """The law in proportion to sizes, and how many weights it keeps or draws."""
    weights = sum(leaf.size for leaf in jax.tree.leaves(sizes))
    positive = sum(int(jnp.sum(leaf > 0)) for leaf in jax.tree.leaves(sizes))
    keep = round(setting.density * weights)
    if not keep:
        raise ValueError(
            f"density is {setting.density:g}, which keeps none of {weights} weights; it takes a larger one"
        )
    if not positive:
        raise ValueError(
            f"data is {setting.data}, which gives every weight the size 0, as features do that are constant or 0; "
            "it takes data with features that vary"
        )
    law = laws.LAWS[setting.law]
    if law is not laws.Multinomial:  # which may draw one weight again and again
        keep = min(keep, positive)
    return law.proportional(sizes, keep, binary=setting.binary), keep


def _max_kept(law: Any) -> int | None:
    """The most weights that a mask of the law keeps; None where it may keep all."""
    match law:
        case laws.Multinomial(budget=count) | laws.FixedSize(size=count):
            return count
    return None


def _expectation(law: Any, items: laws.Items) -> dict[str, Array]:
    """The expected error of a law, where it can be had for this many items."""
    try:
        return {"expectation": law.error(items)}
    except ValueError:
        return {}


def _with_markov(found: dict[str, Array]) -> dict[str, float]:
    """As numbers; where no sharper bound is known, with Markov's, which needs only the expectation."""
    numbers = {name: float(value) for name, value in found.items()}
    if len(numbers) == 1:
        (mean,) = numbers.values()
        numbers["Markov"] = mean / DELTA
    return numbers
