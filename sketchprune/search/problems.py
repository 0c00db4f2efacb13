"""What ``sketchprune search`` searches: a model on data, a law of masks, an objective, and what theory says of it."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from sketchprune import data, kernels, laws, linalg, masks, models, search, sketch, train
from sketchprune.data import Dataset

Model = Literal["linear", "mlp", "lenet"]
Law = Literal["multinomial", "poisson", "fixed"]
Objective = Literal["linear-error", "training-error", "ntk-error", "initial-loss", "trained-loss"]
Probabilities = Literal["optimal", "data-free", "uniform"]
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "linear": ("linear-error", "training-error"),
    "mlp": ("initial-loss", "trained-loss", "ntk-error"),
    "lenet": ("initial-loss", "trained-loss", "ntk-error"),
}
"""Of each model, the default first."""
DELTA = 0.01
"""The failure rate at which a tail bound is drawn."""
_SAMPLES = {"initial-loss": 256, "trained-loss": 256, "ntk-error": 16}


@dataclass(frozen=True)
class Setting:
    """What names a problem; the command's options of the same names.

    ``steps`` and ``step_size`` are None where the objective is made without them.
    """

    data: str
    model: Model
    law: Law
    probabilities: Probabilities
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
        exactly: the same objective in float64, for use under x64.
        keep: weights that masks keep, or draw, in expectation.
        weights: prunable weights.
        theory: numbers that theory has for this law and objective, by name: "expectation" or "expectation at most",
            and the value that all but a fraction ``DELTA`` of masks stay under, by the name of the bound.
        zero_mask: keeps nothing that may be pruned: what a search has to beat.
    """

    law: Callable[[Any], Any]
    objective: Callable[[Any], Any]
    exactly: Callable[[Any], Any]
    keep: int
    weights: int
    theory: dict[str, float]
    zero_mask: Any


def completed(setting: Setting) -> Setting:
    """The setting with its objective's steps and step size. ValueError for what does not go together."""
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


def _check(setting: Setting):
    if setting.objective not in OBJECTIVES[setting.model]:
        raise ValueError(
            f"objective: got {setting.objective} for the model {setting.model}; "
            f"takes {' or '.join(OBJECTIVES[setting.model])}"
        )
    if not 0 < setting.density <= 1:
        raise ValueError(f"density: got {setting.density:g}; takes a number in (0, 1]")
    if setting.steps is not None and not 0 <= setting.steps < 2**31:
        raise ValueError(f"steps: got {setting.steps}; takes a whole number from 0 to 2^31 - 1")
    if setting.step_size is not None and not 0 < setting.step_size < math.inf:
        raise ValueError(f"step-size: got {setting.step_size:g}; takes a finite number > 0")
    # What would change nothing is refused.
    if setting.objective not in ("training-error", "trained-loss"):
        for name, value in (("steps", setting.steps), ("step-size", setting.step_size)):
            if value is not None:
                raise ValueError(
                    f"{name}: got {value} with the objective {setting.objective}, which trains nothing; "
                    "takes training-error or trained-loss"
                )
    if setting.objective == "training-error" and setting.steps is None and setting.step_size is not None:
        raise ValueError(f"step-size: got {setting.step_size:g} and no steps, so that of convergence; takes --steps")
    if setting.binary and setting.law == "fixed":
        raise ValueError("binary: got --binary with the law fixed, of 0/1 masks alone; takes multinomial or poisson")
    if setting.binary and setting.objective == "training-error":
        raise ValueError(
            "binary: got --binary with the objective training-error, the same for every mask that keeps the same; "
            "takes linear-error"
        )


def problem(setting: Setting, dataset: Dataset) -> Problem:
    """The problem that a completed setting names.

    ValueError for a density that keeps nothing, and for data that give every weight the size 0.
    """
    return (_linear if setting.model == "linear" else _network)(setting, dataset)


# --- linear models


def _linear(setting: Setting, dataset: Dataset) -> Problem:
    images = jnp.asarray(dataset.x.reshape(len(dataset.x), -1), jnp.float32)
    x, hot = linalg.compress(data.standardise(images), data.one_hot(dataset.y, dataset.num_classes))
    x, y = x.astype(jnp.float32), (2 * hot[:, 0] - hot.sum(axis=1)).astype(jnp.float32)
    w = jax.random.normal(jax.random.key(setting.seed), (x.shape[1],), jnp.float32)
    keep = _keep(setting, w.size)
    if setting.probabilities == "optimal":
        sizes = sketch.magnitudes(x, w)
    else:
        sizes = abs(w) if setting.probabilities == "data-free" else jnp.ones_like(w)
    sizes = jnp.where(jnp.any(x != 0, axis=0), sizes, 0)  # a zero column costs a draw and changes nothing
    law, chances, keep = _law(setting, sizes, keep)

    most = None if setting.law == "poisson" else keep
    timing: dict[str, Any] = {}
    if setting.steps is not None and setting.step_size is not None:
        timing = {"steps": setting.steps, "step_size": setting.step_size / float(jnp.linalg.norm(x, 2)) ** 2}

    def objective(dtype: Any) -> Callable[[Any], Any]:
        wide = functools.partial(jnp.asarray, dtype=dtype)
        if setting.objective == "linear-error":
            return search.linear_error(wide(x), wide(w))
        return search.training_error(wide(x), wide(y), keep=most, **timing)

    theory = _linear_theory(setting, x, w, y, chances, keep)
    zero = jnp.zeros(w.shape, jnp.float32)
    return Problem(law, objective(jnp.float32), lambda mask: objective(jnp.float64)(mask), keep, w.size, theory, zero)


def _linear_theory(setting, x, w, y, chances, keep) -> dict[str, float]:
    """Expectations of the objective, and what it exceeds with probability DELTA at most."""
    found: dict[str, Any] = {}
    if setting.objective == "training-error":
        if setting.steps is None and setting.law == "multinomial":
            found["expectation at most"] = laws.Multinomial(chances, keep).training_bound(x, y)
        elif setting.steps is None and setting.law == "poisson":
            found["expectation at most"] = laws.Poisson(chances).training_bound(x, y)
    elif setting.law == "multinomial":
        found["expectation"] = laws.Multinomial(chances, keep, binary=setting.binary).error(sketch.linear_items(x, w))
        if not setting.binary and setting.probabilities == "optimal":
            found["McDiarmid"] = sketch.mcdiarmid_tail(x, w, keep, DELTA) ** 2
        elif not setting.binary:
            beta = sketch.near_optimality(sketch.optimal_probabilities(x, w), chances)
            found["Drineas, Kannan and Mahoney"] = sketch.dkm_tail(x, w, keep, DELTA, beta=beta) ** 2
    elif setting.law == "poisson":
        found["expectation"] = laws.Poisson(chances, binary=setting.binary).error(sketch.linear_items(x, w))
    elif len(w) <= 16:
        found["expectation"] = laws.FixedSize(chances, keep).error(sketch.linear_items(x, w))
    return _with_tail(found)


# --- networks


def _network(setting: Setting, dataset: Dataset) -> Problem:
    rng = np.random.default_rng(setting.seed)
    count = min(len(dataset.x), _SAMPLES[setting.objective])
    chosen = rng.choice(len(dataset.x), count, replace=False)
    pixels = (dataset.images if setting.model == "lenet" else dataset.x)[chosen]
    x = jnp.asarray(pixels / (np.abs(dataset.x).max() or 1), jnp.float32)
    y = jnp.asarray(dataset.y[chosen], jnp.int32)
    model = looped = models.mlp(64, 64, dataset.num_classes)
    if setting.model == "lenet":
        # Convolutions with many kernels, in loops, are slow on a CPU; the tangent kernel looks for them as they are.
        model, looped = (models.lenet(dataset.num_classes, patches=patches) for patches in (False, True))
    apply, params = models.initial(model, jax.random.key(setting.seed), x)
    run, _ = models.initial(looped, jax.random.key(setting.seed), x)
    prunable = masks.prunable(params)
    weights = sum(leaf.size for leaf in _some(params, prunable))
    keep = _keep(setting, weights)
    norms = None
    if setting.probabilities == "optimal" or setting.objective == "ntk-error":
        few = x[: _SAMPLES["ntk-error"]]
        norms = kernels.column_norms(apply, params, few)
    sizes: PyTree = jax.tree.map(jnp.ones_like, params)
    if setting.probabilities == "data-free":
        sizes = jax.tree.map(jnp.abs, params)
    elif setting.probabilities == "optimal":
        sizes = norms
    some_law, chances, keep = _law(setting, _some(sizes, prunable), keep)

    def law(key: Any) -> Any:
        drawn = iter(some_law(key))
        return jax.tree.map(lambda leaf, prune: next(drawn) if prune else jnp.ones_like(leaf), params, prunable)

    def objective(dtype: Any) -> Callable[[Any], Any]:
        wide = functools.partial(jnp.asarray, dtype=dtype)
        start = jax.tree.map(wide, params)
        if setting.objective == "ntk-error":
            return search.ntk_error(apply, start, wide(x))
        if setting.objective == "initial-loss":
            return search.initial_loss(run, train.cross_entropy, start, (wide(x), y))
        assert setting.steps is not None and setting.step_size is not None
        adam = optax.adam(setting.step_size)
        return search.trained_loss(run, train.cross_entropy, start, (wide(x), y), adam, setting.steps)

    found: dict[str, Any] = {}
    if setting.objective == "ntk-error" and not setting.binary and setting.law != "fixed":
        squares = [norm**2 for norm in _some(norms, prunable)]
        if setting.law == "poisson":
            found["expectation"] = _over(squares, chances) - sum(jnp.sum(square) for square in squares)
        else:
            pruned = jax.tree.map(lambda leaf, prune: jnp.full(leaf.shape, float(prune)), params, prunable)
            kernel = kernels.ntk(apply, params, x, mask=pruned)
            found["expectation"] = (_over(squares, chances) - jnp.sum(kernel**2)) / keep
    theory = _with_tail(found)
    zero = jax.tree.map(lambda leaf, prune: jnp.full(leaf.shape, float(not prune), jnp.float32), params, prunable)
    return Problem(law, objective(jnp.float32), lambda mask: objective(jnp.float64)(mask), keep, weights, theory, zero)


def _some(tree: PyTree, prunable: PyTree) -> list[Array]:
    """The prunable leaves."""
    return [leaf for leaf, prune in zip(jax.tree.leaves(tree), jax.tree.leaves(prunable), strict=True) if prune]


def _over(numerators: list[Array], denominators: list[Array]) -> Float[Array, ""]:
    """Σ a/b with 0/0 = 0."""
    pairs = zip(numerators, denominators, strict=True)
    return sum((jnp.sum(jnp.where(a == 0, 0, a / b)) for a, b in pairs), jnp.zeros(()))


# --- laws


def _keep(setting: Setting, weights: int) -> int:
    keep = round(setting.density * weights)
    if not keep:
        raise ValueError(f"density: got {setting.density:g}, which keeps none of {weights} weights; takes a larger one")
    return keep


def _law(setting: Setting, sizes: PyTree, keep: int) -> tuple[Callable[[Any], Any], PyTree, int]:
    """The law in proportion to sizes, its probabilities or rates, and what it keeps or draws."""
    positive = sum(int(jnp.sum(leaf > 0)) for leaf in jax.tree.leaves(sizes))
    if not positive:
        raise ValueError(
            f"data: got {setting.data}, which gives every weight the size 0, as features do that are constant or 0; "
            "takes data with features that vary"
        )
    if setting.law == "multinomial":
        total = sum(float(jnp.sum(leaf)) for leaf in jax.tree.leaves(sizes))
        chances = jax.tree.map(lambda leaf: leaf / total, sizes)
        return laws.Multinomial(chances, keep, binary=setting.binary).sample, chances, keep
    keep = min(keep, positive)
    if setting.law == "poisson":
        chances = laws.poisson_rates(sizes, keep)
        return laws.Poisson(chances, binary=setting.binary).sample, chances, keep
    return laws.FixedSize(sizes, keep).sample, sizes, keep


def _with_tail(found: dict[str, Any]) -> dict[str, float]:
    """As numbers; where no sharper bound is known the tail is Markov's, which needs only the expectation."""
    numbers = {name: float(value) for name, value in found.items()}
    if len(numbers) == 1:
        (mean,) = numbers.values()
        numbers["Markov"] = mean / DELTA
    return numbers
