"""sketch/: laws of masks that do not depend on the data."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import laws, scores, sketch
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.sketch.cases import (  # fmt: skip
    EVALUATED,
    FEATURES,
    SOME_ITEM,
    TESTED_ROWS,
    Linear,
    Rng,
    draw_instance,
    rows_of,
    uncorrelated,
)
from theory.catalogue.sketch.moments import BAR, expected_error
from theory.catalogue.squares import squared
from theory.claim import Case, Claim, Sides
from theory.kinds import Bound, Expectation, Identity

# --- sketch/data-free


def _data_free(instance: Linear, _: Key) -> dict[str, Sides]:
    x, w, s = instance.x, instance.w, instance.budget
    p, norms, size = sketch.data_free_probabilities(w), jnp.linalg.norm(x, axis=0), abs(w)
    moment = jnp.sum(size) * jnp.sum(size * norms**2)
    beta = jnp.sum(size * norms) / jnp.sum(size) / jnp.max(jnp.where(size > 0, norms, 0))
    # On columns of equal norms the data-free probabilities are optimal.
    equal = jnp.where(norms > 0, x / jnp.where(norms > 0, norms, 1), jnp.eye(x.shape[0], x.shape[1]))
    measured = jnp.stack(
        [
            expected_error(x, w, p, s) / moment,
            sketch.near_optimality(sketch.optimal_probabilities(x, w), p),
            expected_error(equal, w, p, s) / jnp.sum(size) ** 2,
        ]
    )
    theory = jnp.stack(
        [
            (moment - squared(x @ w)) / s / moment,
            beta,
            (jnp.sum(size) ** 2 - squared(equal @ w)) / s / jnp.sum(size) ** 2,
        ]
    )
    right = Sides(measured, theory, scale=jnp.ones(3))
    return {"claim": right, "β = 1": right._replace(theory=theory.at[1].set(1.0))}


DATA_FREE = Claim(
    id="sketch/data-free",
    title="Sampling in proportion to |w|: its expected error, its near-optimality, and when it is optimal",
    statement=(
        r"p=\frac{|w|}{\|w\|_1}:\quad\mathbb{E}=\frac1s\Big(\|w\|_1\sum_i|w_i|\|x_i\|^2-\|Xw\|^2\Big),\quad"
        r"\beta=\frac{\sum_j|w_j|\|x_j\|/\|w\|_1}{\max_{w_i\ne0}\|x_i\|}"
    ),
    sources=(BAR,),
    kind=Identity(),
    cases=EVALUATED,
    trial=_data_free,
    hypotheses=SOME_ITEM,
    mutants=("β = 1",),
    note="Components: the error, β, and the error on the same columns scaled to one norm, where it is the least.",
)


# --- sketch/data-free-minimax


def worst_columns(w: Float[Array, " d"], rows: int) -> Float[Array, "n d"]:
    """Unit columns in two dimensions with Xw = 0: a closed polygon whose sides have the lengths |w_i|.

    The sides are grouped in order into the three sides of a triangle. Such a triangle exists because no weight is
    larger than the sum of the others.
    """
    size = abs(w)
    total, before = jnp.sum(size), jnp.cumsum(size) - size
    first = before + size <= total / 2
    second = ~first & (before <= total / 2)
    group = jnp.where(first, 0, jnp.where(second, 1, 2))
    a, b, c = (jnp.sum(jnp.where(group == g, size, 0)) for g in range(3))

    def corner(one: Array, other: Array, opposite: Array) -> Array:
        cosine = (one**2 + other**2 - opposite**2) / jnp.where(one * other > 0, 2 * one * other, 1)
        return jnp.arccos(jnp.clip(cosine, -1.0, 1.0))

    angle = jnp.stack([jnp.zeros_like(a), jnp.pi - corner(a, b, c), jnp.pi + corner(a, c, b)])[group]
    sides = jnp.stack([jnp.cos(angle), jnp.sin(angle)]) * jnp.where(w < 0, -1, 1)
    return jnp.pad(sides, ((0, rows - 2), (0, 0)))


def _minimax(instance: Linear, _: Key) -> dict[str, Sides]:
    x, w, s = instance.x, instance.w, instance.budget
    c = jnp.max(jnp.linalg.norm(x, axis=0))
    worst = c * worst_columns(w, x.shape[0])
    size, data_free = abs(w), sketch.data_free_probabilities(w)
    p = instance.beta * data_free + (1 - instance.beta) * instance.tilt

    def supremum(law: Float[Array, " d"]) -> Array:
        return c**2 / s * jnp.sum(jnp.where(w == 0, 0, w**2 / jnp.where(law > 0, law, 1)))

    def sides(law: Float[Array, " d"]) -> Sides:
        """The sides if ``law`` is the minimax law."""
        value = c**2 * jnp.sum(size) ** 2 / s
        measured = [
            expected_error(x, w, p, s),  # no data exceed the supremum;
            supremum(p),  # the worst data attain it;
            expected_error(worst, w, law, s),  # for the minimax law it is no larger than for p;
            expected_error(worst, w, law, s),  # its value there is c²‖w‖₁²/s.
        ]
        theory = [supremum(p), expected_error(worst, w, p, s), expected_error(worst, w, p, s), value]
        return Sides(jnp.stack(measured), jnp.stack(theory), scale=supremum(law))

    return {"claim": sides(data_free), "p ∝ w²": sides(w**2 / jnp.sum(w**2))}


def _polygon_closes(instance: Linear) -> Array:
    return 2 * jnp.max(abs(instance.w)) <= jnp.sum(abs(instance.w))


DATA_FREE_MINIMAX = Claim(
    id="sketch/data-free-minimax",
    title="Sampling in proportion to |w| is minimax optimal among laws that do not depend on the data",
    statement=(
        r"\sup_{\|x_i\|\le c}\mathbb{E}\,\|X(m\circ w)-Xw\|^2=\frac{c^2}{s}\sum_i\frac{w_i^2}{p_i}"
        r"\;\ge\;\frac{c^2\|w\|_1^2}{s},\quad\text{with equality only at }p\propto|w|"
    ),
    sources=(BAR,),
    kind=Bound(search=("x", "w")),
    cases=EVALUATED,
    trial=_minimax,
    hypotheses={"max|w_i| is at most the sum of the others": _polygon_closes},
    mutants=("p ∝ w²",),
    note="The worst data are constructed: columns of one norm, whose weighted sum is a closed polygon.",
)


# --- sketch/data-free-random-data


def _draw_data(instance: Linear, key: Key) -> tuple[Array, Array]:
    law_key, data_key, mask_key = jax.random.split(key, 3)
    shape, dtype = (RANDOM_ROWS, instance.w.shape[0]), instance.w.dtype
    x = jnp.where(
        jax.random.bernoulli(law_key),
        jax.random.normal(data_key, shape, dtype),
        jax.random.rademacher(data_key, shape, dtype),
    )
    p = sketch.data_free_probabilities(instance.w)
    return x, laws.Multinomial(p, instance.budget, max_budget=instance.max_budget).sample(mask_key)


RANDOM_ROWS, RANDOM_FEATURES = 8, 16


def _random_data(instance: Linear, outcome: tuple[Array, Array]) -> dict[str, Sides]:
    x, mask = outcome
    w, s = instance.w, instance.budget
    first = RANDOM_ROWS * jnp.sum(abs(w)) ** 2 / s
    right = Sides(squared(x @ (mask * w - w)), first - RANDOM_ROWS * squared(w) / s)
    return {"claim": right, "without −‖w‖₂²": right._replace(theory=first)}


def _random_rows(rng: Rng, dataset: Dataset) -> Linear:
    x = rng.standard_normal((TESTED_ROWS, RANDOM_FEATURES))
    return draw_instance(rng, x if rng.random() < 0.5 else np.sign(x), np.zeros(len(x)))


def _real_rows(rng: Rng, dataset: Dataset) -> Linear:
    x = rows_of(rng, dataset, RANDOM_FEATURES)
    return draw_instance(rng, x, np.zeros(len(x)))


DATA_FREE_RANDOM_DATA = Claim(
    id="sketch/data-free-random-data",
    title="On random data, sampling in proportion to |w| has the expected error nσ²(‖w‖₁² − ‖w‖₂²)/s",
    statement=r"\mathbb{E}_X\mathbb{E}_m\|X(m\circ w)-Xw\|^2=\frac{n\sigma^2}{s}\big(\|w\|_1^2-\|w\|_2^2\big)",
    sources=(BAR,),
    kind=Expectation(),
    cases=(Case("gaussian-or-rademacher", _random_rows), Case("{data}", _real_rows)),
    trial=_random_data,
    draw=_draw_data,
    hypotheses={
        "the entries of X are of mean zero and one variance, and do not correlate": lambda i: uncorrelated(i.x)
    },
    mutants=("without −‖w‖₂²",),
    note="Every trial draws new data. The pixels of images correlate, so that case is UNMET.",
)


# --- sketch/linear-scores


def _linear_scores(instance: Linear, _: Key) -> dict[str, Sides]:
    x, w, y = instance.x, instance.w, instance.y
    layer = jnp.stack([w, instance.tilt * FEATURES], axis=1)
    targets = jnp.stack([y, x @ w + 1], axis=1)

    def apply(params: Array, inputs: Array) -> Array:
        return inputs @ params

    def loss(outputs: Array, targets: Array) -> Array:
        return squared(outputs - targets) / 2

    synflow = scores.synflow(apply, loss, layer, (x, targets))
    snip = scores.snip(apply, loss, layer, (x, targets))
    residual = x @ layer - targets
    exactly = abs(layer) * abs(x.T @ residual)
    norms = jnp.linalg.norm(x, axis=0)[:, None] * abs(layer)
    largest = norms * jnp.linalg.norm(residual, axis=0)
    scale = jnp.max(largest, axis=0, keepdims=True)

    def sides(bound: Array) -> Sides:
        over = jnp.maximum((snip - bound) / scale, 0)
        measured = jnp.stack([synflow / jnp.sum(synflow), snip / scale, jnp.where(over < 1e-9, 0, over)])
        theory = jnp.stack([abs(layer) / jnp.sum(abs(layer)), exactly / scale, jnp.zeros_like(over)])
        return Sides(measured, theory, scale=jnp.ones_like(measured))

    return {"claim": sides(largest), "SNIP ≤ a": sides(norms)}


LINEAR_SCORES = Claim(
    id="sketch/linear-scores",
    title="On a linear layer SynFlow gives the data-free law, and SNIP is a_i times an alignment with the residual",
    statement=(r"\text{SynFlow}_i\propto|w_i|,\qquad\text{SNIP}_i=|w_i||\langle x_i,Xw-y\rangle|\le a_i\|Xw-y\|"),
    sources=(BAR,),
    kind=Identity(),
    cases=EVALUATED,
    trial=_linear_scores,
    hypotheses=SOME_ITEM,
    mutants=("SNIP ≤ a",),
    note="With two outputs. Components: SynFlow, SNIP, and the excess of SNIP over its bound, which must be 0.",
)

DATA_FREE_CLAIMS = (DATA_FREE, DATA_FREE_MINIMAX, DATA_FREE_RANDOM_DATA, LINEAR_SCORES)
