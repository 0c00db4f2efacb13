"""Problems of a linear model: Gaussian weights on the standardised features of a data set."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import data, laws, linalg, masks, sketch
from sketchprune.data import Dataset
from sketchprune.search import objectives, subsets
from sketchprune.search.objectives import Objective
from sketchprune.search.problems._law import expectation, law_of_sizes, max_kept, realised_density, with_markov
from sketchprune.search.problems.setting import DELTA, DirectMask, Problem, Setting
from sketchprune.types import Prunable

_MAX_WEIGHTS = 256
"""Masks are found directly for models of at most this many weights, in seconds."""
_MAX_NODES = 5000
"""Nodes of branch and bound within which the optimum is to be proved. Their number, unlike time, gives one result.

Above 64 weights there are fewer, by the square of the weights, since a node of reweighted masks costs as much more.
"""


class _LinearModel(NamedTuple):
    """Data, targets and weights, in float32."""

    x: Float[Array, "n d"]
    y: Float[Array, "n"]
    w: Float[Array, "d"]


def linear_problem(setting: Setting, dataset: Dataset, prunable: Prunable = None) -> Problem:
    """The problem of a setting whose model is linear: one leaf, which must be among those that may be pruned.

    Args:
        setting: from :func:`sketchprune.search.problems.completed`.
        dataset: the data that it names.
        prunable: as for :func:`sketchprune.masks.prunable`.

    Returns:
        The law, the objective, and what theory says of them.

    Raises:
        ValueError: as :func:`sketchprune.search.problems.problem`.
    """
    model = _model(setting, dataset)
    masks.prunable(model.w, prunable)
    law, keep = law_of_sizes(setting, _sizes(setting, model))
    objective = functools.partial(_objective, setting, model, max_kept(law))
    return Problem(
        law=law.sample,
        objective=objective(jnp.float32),
        objective_float64=lambda mask: objective(jnp.float64)(mask),
        keep=keep,
        weights=model.w.size,
        density=realised_density(law),
        theory=_theory(setting, model, law),
        zero_mask=jnp.zeros_like(model.w),
        direct_masks=functools.partial(_direct_masks, setting, model, law, keep),
    )


def _model(setting: Setting, dataset: Dataset) -> _LinearModel:
    """Standardised features, the first class against the others, and Gaussian weights."""
    images = jnp.asarray(dataset.x.reshape(len(dataset.x), -1), jnp.float32)
    x, hot = linalg.compress(data.standardise(images), data.one_hot(dataset.y, dataset.num_classes))
    x, y = x.astype(jnp.float32), (2 * hot[:, 0] - hot.sum(axis=1)).astype(jnp.float32)
    return _LinearModel(x, y, jax.random.normal(jax.random.key(setting.seed), (x.shape[1],), jnp.float32))


def _sizes(setting: Setting, model: _LinearModel) -> Float[Array, "d"]:
    """What the law is in proportion to; 0 for zero columns, which would take a draw and change nothing."""
    sizes = {
        "optimal": sketch.magnitudes(model.x, model.w),
        "data-free": abs(model.w),
        "uniform": jnp.ones_like(model.w),
    }
    return jnp.where(jnp.any(model.x != 0, axis=0), sizes[setting.probabilities], 0)


def _objective(setting: Setting, model: _LinearModel, max_kept: int | None, dtype: Any) -> Objective:
    """The objective of the setting, in a dtype; ``max_kept`` bounds what masks keep."""
    x, y, w = (jnp.asarray(part, dtype) for part in model)
    if setting.objective == "linear-error":
        return objectives.linear_error(x, w)
    if setting.steps is None or setting.step_size is None:
        return objectives.training_error(x, y, keep=max_kept)
    # The step size is relative to 1/λ_max, at which gradient descent is stable for any mask.
    step_size = setting.step_size / float(jnp.linalg.norm(model.x, 2)) ** 2
    return objectives.training_error(x, y, keep=max_kept, steps=setting.steps, step_size=step_size)


def _theory(setting: Setting, model: _LinearModel, law: Any) -> dict[str, float]:
    """The expectation of the objective, and what it exceeds with probability DELTA at most."""
    if setting.objective == "training-error":
        if setting.steps is not None or not hasattr(law, "training_bound"):
            return {}
        return with_markov({"expectation at most": law.training_bound(model.x, model.y)})
    found = expectation(law, sketch.linear_items(model.x, model.w))
    return with_markov(found | _multinomial_tail(setting, model, law))


def _multinomial_tail(setting: Setting, model: _LinearModel, law: Any) -> dict[str, Array]:
    """The tail bound on the error of an unbiased multinomial sketch; nothing for another law."""
    if not isinstance(law, laws.Multinomial) or law.binary:
        return {}
    x, w = model.x, model.w
    if setting.probabilities == "optimal":
        return {"McDiarmid": sketch.mcdiarmid_tail(x, w, law.budget, DELTA) ** 2}
    beta = sketch.near_optimality(sketch.optimal_probabilities(x, w), law.probabilities)
    return {"Drineas, Kannan and Mahoney": sketch.dkm_tail(x, w, law.budget, DELTA, beta=beta) ** 2}


def _direct_masks(setting: Setting, model: _LinearModel, law: Any, keep: int) -> tuple[DirectMask, ...]:
    """The best mask of at most as many weights, and for weights that are trained to convergence the relaxed mask."""
    if model.w.size > _MAX_WEIGHTS or setting.steps is not None:
        return ()
    if setting.objective == "training-error":
        relaxed = subsets.relaxed(model.x, model.y, keep)
        return (DirectMask("relaxed mask", f"a mask of {keep} weights", relaxed.mask, float(relaxed.error)),)
    reweight = not (setting.binary or isinstance(law, laws.FixedSize))
    nodes = _MAX_NODES if not reweight else int(_MAX_NODES * min(1, 64 / model.w.size) ** 2)
    best = subsets.optimum(model.x, model.w, keep, reweight=reweight, max_nodes=nodes)
    name = "branch and bound" if best.gap else "optimum"
    kind = f"{'a mask >= 0' if reweight else 'a 0/1 mask'} of at most {keep} weights"
    return (DirectMask(name, kind, best.mask, best.error, best.bound),)
