"""sketch/: the error after training the weights that a mask keeps. The measured side always trains."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from sketchprune import laws, linalg, sketch, train
from sketchprune.data import Dataset
from sketchprune.types import Key, Matrix, PerRow
from theory.catalogue.sketch.cases import (  # fmt: skip
    EVALUATED,
    ROWS,
    SAMPLED,
    SMALL,
    SOME_ITEM,
    Linear,
    Rng,
    draw_instance,
    gaussian,
    some_item,
)
from theory.catalogue.sketch.moments import BAR
from theory.catalogue.squares import predict, squared, stepped_half_squares, with_step
from theory.claim import Case, Claim, Sides
from theory.kinds import Bound, Expectation

VectorMask = Bool[Array, " d"] | Float[Array, " d"]
STEPS = 10_000
"""Training stops after this many steps, or earlier when the gradient vanishes."""


def trained_weights(x: Matrix, y: PerRow, kept: VectorMask) -> Float[Array, " d"]:
    """The weights to which optax's accelerated gradient descent on the kept coordinates converges, from zero.

    Coordinates are scaled so that columns have unit norm. This does not change the error at the end, and columns of
    very unequal norms would otherwise take millions of steps.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    norms = jnp.linalg.norm(x, axis=0)
    scale = jnp.where(norms > 0, 1 / jnp.where(norms > 0, norms, 1), 0)
    unit = x * scale
    kept = (kept != 0).astype(x.dtype)
    # Gershgorin's bound on the largest eigenvalue of the kept columns' Gram matrix.
    largest = jnp.max(kept * (abs(unit.T @ unit) @ kept))
    # In float64 training goes on to rounding; means of float32 samples need less.
    momentum, tolerance = (0.98, 5e-14) if x.dtype == jnp.float64 else (0.9, 1e-5)
    step = 1 / jnp.maximum(largest, 1)
    params, *_ = train.converge(
        predict,
        stepped_half_squares,
        jnp.zeros_like(norms),
        (unit, with_step(y, step)),
        optax.sgd(1.0, momentum=momentum, nesterov=True),
        STEPS,
        mask=kept,
        tolerance=tolerance * step * jnp.linalg.norm(y),
    )
    return scale * params


def trained_error(x: Matrix, y: PerRow, kept: VectorMask) -> Float[Array, ""]:
    """‖Xu − y‖² after training the kept coordinates."""
    return squared(x @ trained_weights(x, y, kept) - y)


# --- sketch/transfer


class Transfer(NamedTuple):
    """A model before and after training, and a law that depends on its initial weights.

    Attributes:
        instance: the instance; its ``w`` are the initial weights w0.
        law: draws with probabilities half way between p*(w0) and uniform ones, at least half of ``max_budget``.
        end: [d], the trained weights w*.
    """

    instance: Linear
    law: laws.Multinomial
    end: Float[Array, " d"]


def _train_dense(instance: Linear) -> Transfer:
    x, y, w = instance.x, instance.y, instance.w
    probabilities = (sketch.optimal_probabilities(x, w) + sketch.uniform_probabilities(w)) / 2
    # A rare item that is hit by one of few draws makes an error many times the expected one.
    budget = jnp.maximum(instance.budget, instance.max_budget // 2)
    law = laws.Multinomial(probabilities, budget, max_budget=instance.max_budget)
    step = 1 / jnp.sum(x**2)
    end, _ = train.fit(predict, stepped_half_squares, w, (x, with_step(y, step)), optax.sgd(1.0), 300)
    return Transfer(instance, law, end)


def _transfer(transfer: Transfer, mask: Float[Array, " d"]) -> dict[str, Sides]:
    x, end = transfer.instance.x, transfer.end
    right = Sides(squared(x @ (mask * end) - x @ end), transfer.law.error(sketch.linear_items(x, end)))
    return {"claim": right, "w0 for w*": right._replace(theory=transfer.law.error(transfer.instance.items))}


def _has_error(transfer: Transfer) -> Bool[Array, ""]:
    """Whether masks differ in their error: they do not where all w_i x_i / p_i are one vector."""
    items = sketch.linear_items(transfer.instance.x, transfer.end)
    return transfer.law.error(items) > 1e-3 * jnp.sum(items.squares / transfer.law.probabilities) / transfer.law.budget


TRANSFER = Claim(
    id="sketch/transfer",
    title="The expected error of a mask drawn at initialisation and applied to the trained weights",
    statement=(
        r"\mathbb{E}\,\|X(m\circ w^*)-Xw^*\|^2=\frac1s\Big(\sum_i\frac{w_i^{*2}\|x_i\|^2}{p_i}"
        r"-\|Xw^*\|^2\Big),\qquad p\text{ from }w_0"
    ),
    sources=(BAR,),
    kind=Expectation(),
    cases=(*SAMPLED, *SMALL),
    trial=_transfer,
    prepare=_train_dense,
    hypotheses={
        "some w_i x_i is not zero": lambda transfer: some_item(transfer.instance),
        "the expected error is above rounding, 10⁻³ of Σa_i²/(s p_i)": _has_error,
    },
    draw=lambda transfer, key: transfer.law.sample(key),
    outcomes=lambda transfer: transfer.law.outcomes(),
    mutants=("w0 for w*",),
    note=(
        "w* is w0 after 300 steps of optax's gradient descent. The probabilities are half way between p*(w0) and "
        "uniform ones. Without the uniform part, or with few draws, the error has a heavy tail, where training needs a "
        "weight that is almost 0 at initialisation."
    ),
)


# --- sketch/training-error, sketch/training-error-at-t: bounds on one mask

KEPT = 12
"""The largest number of coordinates that such a mask keeps."""


def _draw_mask(instance: Linear, key: Key) -> Float[Array, " d"]:
    budget = jnp.minimum(instance.budget, KEPT)
    mask = laws.Multinomial(instance.near_optimal, budget, max_budget=KEPT).sample(key)
    return jnp.where(instance.whole, jnp.any(instance.x != 0, axis=0), mask)


def _whole(rng: Rng, dataset: Dataset) -> Linear:
    """A mask that keeps all non-zero columns, for which the bound is an equality."""
    x = gaussian(rng)
    x[:, KEPT:] = 0
    return draw_instance(rng, x, rng.standard_normal(ROWS), whole=True)


WHOLE = Case("whole", _whole)


class Kept(NamedTuple):
    """The model on the kept columns alone, after an orthogonal change of samples."""

    x: Float[Array, "r k"]
    y: Float[Array, " r"]
    start: Float[Array, " k"]


def _keep(instance: Linear, mask: Float[Array, " d"]) -> Kept:
    columns = jnp.nonzero(mask, size=KEPT, fill_value=mask.shape[0])[0]
    kept = instance.x.at[:, columns].get(mode="fill", fill_value=0)
    x, y = linalg.compress(kept, instance.y)
    return Kept(x, y, instance.w.at[columns].get(mode="fill", fill_value=0))


def _training_error(instance: Linear, mask: Float[Array, " d"]) -> dict[str, Sides]:
    x, w, y = instance.x, instance.w, instance.y
    kept = _keep(instance, mask)
    measured = trained_error(kept.x, kept.y, jnp.ones(KEPT))
    end = linalg.limit(x, y, w)
    transferred, rest = squared(x @ (mask * end) - x @ end), squared(x @ end - y)
    right = Sides(measured, transferred + rest, scale=squared(y), trivial=squared(y))
    return {
        "claim": right,
        "without ‖Xw*−y‖²": right._replace(theory=transferred),
        "without the transfer": right._replace(theory=rest),
    }


TRAINING_ERROR = Claim(
    id="sketch/training-error",
    title="Training the kept weights does at least as well as masking the trained weights",
    statement=r"\|Xu_\infty-y\|^2\le\|X(m\circ w^*)-Xw^*\|^2+\|Xw^*-y\|^2",
    sources=(BAR,),
    kind=Bound(),
    cases=(*EVALUATED, WHOLE),
    trial=_training_error,
    hypotheses=SOME_ITEM,
    draw=_draw_mask,
    mutants=("without ‖Xw*−y‖²", "without the transfer"),
    note=(
        "m∘w* is among the weights that training chooses from, and the residual of w* is orthogonal to the range of X. "
        "This bound is very loose: training-error-ridge is the one to use."
    ),
)

TIMES = (0, 1, 10, 100, 1_000, STEPS)


def _at_t(instance: Linear, mask: Float[Array, " d"]) -> dict[str, Sides]:
    x, y, start = _keep(instance, mask)
    values, vectors = jnp.linalg.eigh(x @ x.T)
    largest = values[-1]
    alive = values > len(values) * jnp.finfo(x.dtype).eps * largest
    step = 1 / jnp.where(largest > 0, largest, 1)  # where all kept columns are zero, any step will do
    least = jnp.min(jnp.where(alive, values, largest))
    _, losses = train.fit(predict, stepped_half_squares, start, (x, with_step(y, step)), optax.sgd(1.0), STEPS + 1)
    measured = 2 * losses[jnp.array(TIMES)] / step
    along = vectors.T @ (x @ start - y)
    limit = squared(jnp.where(alive, 0, along))
    fades, times = squared(jnp.where(alive, along, 0)), jnp.array(TIMES, x.dtype)

    def bound(rate: Array) -> Array:
        return limit + jnp.exp(-2 * step * rate * times) * fades

    whole = squared(x @ start) + squared(y)  # both errors are differences of numbers of this size
    right = Sides(measured, bound(least), scale=whole, trivial=squared(y) + 0 * measured)
    return {"claim": right, "10λ⁺ for λ⁺": right._replace(theory=bound(10 * least))}


TRAINING_ERROR_AT_T = Claim(
    id="sketch/training-error-at-t",
    title="How fast the training error of the pruned model falls",
    statement=(
        r"\|Xu_t-y\|^2\le\|Xu_\infty-y\|^2+e^{-2\eta\lambda^+t}\|P_S(Xu_0-y)\|^2,"
        r"\qquad\eta\le\frac1{\lambda_{\max}(K_S)}"
    ),
    sources=(BAR,),
    kind=Bound(),
    cases=(*EVALUATED, WHOLE),
    trial=_at_t,
    hypotheses=SOME_ITEM,
    draw=_draw_mask,
    mutants=("10λ⁺ for λ⁺",),
    note="Plain gradient descent by optax to t = 10⁴. Eigenvalues up to n·eps times the largest count as zero.",
)

TRAINING = (TRANSFER, TRAINING_ERROR, TRAINING_ERROR_AT_T)
