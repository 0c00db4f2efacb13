"""sketch/: the best possible mask, compared with the expected error of random ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from sketchprune import laws, sketch
from sketchprune.data import Dataset
from sketchprune.search import subsets
from sketchprune.types import Key
from theory.catalogue.sketch.cases import Rng, random_signs, random_weights, real, some_columns
from theory.catalogue.sketch.moments import BAR, DKM
from theory.catalogue.squares import squared
from theory.claim import Case, Claim, Sides
from theory.kinds import Bound

ROWS = ITEMS = 16
BUDGET = 4
"""Draws of a sketch, and the largest number of non-zero entries of the best masks."""
SKETCHES, STARTS = 1024, 8
"""Random masks drawn for an instance, and starts of the local search."""


class Model(struct.PyTreeNode):
    """A linear model so small that its best masks are known, with proof.

    Attributes:
        x: [n, d].
        w: [d].
        probabilities: [d], of a multinomial law with BUDGET draws.
        rates: [d], of a poisson law.
        reweighted: the least error of masks ≥ 0 with at most BUDGET non-zero entries, by branch and bound.
        binary: the least error of such 0/1 masks.
    """

    x: Any
    w: Any
    probabilities: Any
    rates: Any
    reweighted: Any
    binary: Any


def _solved(rng: Rng, x: np.ndarray, w: np.ndarray, *, rates: np.ndarray | None = None) -> Model:
    """An instance with its two optima."""
    sizes = np.linalg.norm(x, axis=0) * np.abs(w)
    probabilities = 0.8 * sizes / (sizes.sum() or 1) + 0.2 / ITEMS
    optima = [subsets.optimum(x, w, BUDGET, reweight=reweight) for reweight in (True, False)]
    if any(optimum.gap for optimum in optima):
        raise ValueError("max_nodes is too small to prove the optima of sketch/existence")
    return Model(
        x=x,
        w=w,
        probabilities=probabilities,
        rates=np.clip(BUDGET * probabilities, 0.05, 0.95) if rates is None else rates,
        reweighted=np.asarray(optima[0].error),
        binary=np.asarray(optima[1].error),
    )


def _gaussian(rng: Rng, dataset: Dataset) -> Model:
    return _solved(rng, rng.standard_normal((ROWS, ITEMS)), random_weights(rng, ITEMS))


def _correlated(rng: Rng, dataset: Dataset) -> Model:
    shared = rng.standard_normal((ROWS, 1)) * random_signs(rng, ITEMS)
    return _solved(rng, shared + 0.3 * rng.standard_normal((ROWS, ITEMS)), random_weights(rng, ITEMS))


def _orthonormal(rng: Rng, dataset: Dataset) -> Model:
    """At π = ½ every poisson mask has the same error, d."""
    x = np.linalg.qr(rng.standard_normal((ROWS, ITEMS)))[0]
    return _solved(rng, x, np.ones(ITEMS), rates=np.full(ITEMS, 0.5))


def _images(rng: Rng, dataset: Dataset) -> Model:
    x, _ = real(rng, dataset, standardise=True)
    return _solved(rng, _few(rng, x), random_weights(rng, ITEMS))


def _informative(rng: Rng, dataset: Dataset) -> Model:
    """Raw pixels and w ≥ 0, so that a few reweighted columns approximate Xw, and a few plain ones do not."""
    x, _ = real(rng, dataset, standardise=False)
    return _solved(rng, _few(rng, x), np.abs(random_weights(rng, ITEMS)))


def _few(rng: Rng, x: np.ndarray) -> np.ndarray:
    """ITEMS columns, in as many rows, with the same inner products."""
    return np.asarray(np.linalg.qr(some_columns(rng, x, ITEMS), mode="r"))


def least_poisson_error(x: Float[Array, "n d"], w: Float[Array, " d"], rates: Float[Array, " d"]) -> Float[Array, ""]:
    """The least ‖X(m∘w) − Xw‖² over all poisson masks m = b/π, by combining the masks of two halves of the items."""
    kept: Bool[Array, "m h"] = laws.all_subsets(ITEMS // 2)

    def part(items: slice) -> Float[Array, "m n"]:
        return ((kept / rates[items] - 1) * w[items]) @ x[:, items].T

    one, other = part(slice(ITEMS // 2)), part(slice(ITEMS // 2, None))
    return jnp.min(jnp.sum(one**2, axis=1)[:, None] + jnp.sum(other**2, axis=1) + 2 * one @ other.T)


def _existence(model: Model, key: Key) -> dict[str, Sides]:
    x, w, p = model.x, model.w, model.probabilities
    draw_key, start_key = jax.random.split(key)
    law, items = laws.Multinomial(p, BUDGET), sketch.linear_items(x, w)
    drawn = jax.vmap(law.sample)(jax.random.split(draw_key, SKETCHES))
    best_sketch = jnp.min(jnp.sum(((drawn - 1) * w @ x.T) ** 2, axis=1))
    _, local = subsets.local_search(x, w, BUDGET, key=start_key, starts=STARTS)
    multinomial, poisson = law.error(items), laws.Poisson(model.rates).error(items)
    measured = [least_poisson_error(x, w, model.rates), best_sketch, model.reweighted]
    theory = [poisson, multinomial, multinomial]
    # No other mask with as few non-zero entries is better than the optimum of its kind.
    measured += [model.reweighted, model.reweighted, model.binary]
    theory += [best_sketch, model.binary, local]
    whole = jnp.full(len(theory), squared(x @ w))
    # An error of zero is rounding relative to this, for the items of Xw may cancel.
    scale = jnp.full(len(theory), jnp.sum(sketch.magnitudes(x, w)) ** 2)
    right = Sides(jnp.stack(measured), jnp.stack(theory), scale=scale, trivial=whole)
    return {
        "claim": right,
        "0.99 of the expectation": right._replace(theory=right.theory.at[0].multiply(0.99)),
        "0/1 masks": right._replace(measured=right.measured.at[2].set(model.binary)),
    }


EXISTENCE = Claim(
    id="sketch/existence",
    title="Some mask is at least as good as the average, also among masks with s non-zero entries",
    statement=(
        r"\min_{m\in\operatorname{supp}}\|X(m\circ w)-Xw\|^2\le\mathbb{E}\,\|X(m\circ w)-Xw\|^2,\qquad"
        r"\min_{m\ge0,\|m\|_0\le s}\|X(m\circ w)-Xw\|^2\le\frac1s\Big(\sum_i\frac{a_i^2}{p_i}-\|Xw\|^2\Big)"
    ),
    sources=(BAR, DKM),
    kind=Bound(),
    cases=(
        Case("gaussian", _gaussian),
        Case("correlated", _correlated),
        Case("orthonormal", _orthonormal),
        Case("{data}", _images),
        Case("informative", _informative),
    ),
    trial=_existence,
    hypotheses={"some w_i x_i is not zero": lambda model: jnp.any(sketch.magnitudes(model.x, model.w) > 0)},
    mutants=("0.99 of the expectation", "0/1 masks"),
    note=(
        "Optima are found by branch and bound, with proof. Components: the best of all poisson masks, the best of "
        "1,024 sketches and the reweighted optimum, each against an expectation; then reweighted optimum <= best "
        "sketch, reweighted optimum <= 0/1 optimum, and 0/1 optimum <= local search. The best 0/1 mask may exceed the "
        "expectation: that is the second mutant."
    ),
)
