"""sketch/: the error of a single mask, at most or with high probability."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import laws, masks, sketch
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.sketch.cases import (  # fmt: skip
    BUDGET,
    EVALUATED,
    FEATURES,
    MANY_DRAWS,
    ROWS,
    SOME_ITEM,
    Linear,
    Rng,
    draw_instance,
    random_weights,
)
from theory.catalogue.sketch.moments import BAR, DKM, draw_multinomial, error
from theory.catalogue.squares import squared
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Bound, Probability

DELTAS = (0.2, 0.05, 0.01)
"""Failure rates δ at which tail bounds are tested."""


def _sides(instance: Linear, mask: Float[Array, " d"], thresholds: list[Array]) -> Sides:
    missed = jnp.sqrt(error(instance, mask))
    return Sides(
        measured=jnp.full(len(DELTAS), missed),
        theory=jnp.stack(thresholds),
        trivial=jnp.sqrt(squared(instance.x @ instance.w)),
        delta=jnp.array(DELTAS),
    )


def _optimal(instance: Linear) -> laws.Multinomial:
    """The law p*."""
    optimal = sketch.optimal_probabilities(instance.x, instance.w)
    return laws.Multinomial(optimal, instance.budget, max_budget=instance.max_budget)


def _mean_error(instance: Linear) -> Float[Array, ""]:
    """The square root of the expected error at p*."""
    return jnp.sqrt(_optimal(instance).error(instance.items))


def _high_probability(instance: Linear, mask: Float[Array, " d"]) -> dict[str, Sides]:
    x, w, s, beta = instance.x, instance.w, instance.budget, instance.beta
    right = _sides(instance, mask, [sketch.dkm_tail(x, w, s, delta, beta=beta) for delta in DELTAS])
    return {
        "claim": right,
        "mean term alone": right._replace(theory=jnp.full(len(DELTAS), _mean_error(instance))),
    }


def _two_items(rng: Rng, w: tuple[float, float], budget: int, *, max_budget: int = BUDGET) -> Linear:
    """One sample, where every draw from p* is Z times the sign of its weight: the error is that of a binomial mean."""
    x, weights = np.zeros((ROWS, FEATURES)), np.zeros(FEATURES)
    x[0, :2], weights[:2] = 1, w
    instance = draw_instance(rng, x, np.zeros(ROWS), w=weights, max_budget=max_budget)
    return instance.replace(beta=np.asarray(1.0), budget=np.asarray(budget))


def _three_coins(rng: Rng, dataset: Dataset) -> Linear:
    """Two opposite items and three draws, which are all of one item with probability 1/4, more than δ = 0.2."""
    return _two_items(rng, (1.0, -1.0), 3)


HIGH_PROBABILITY = Claim(
    id="sketch/high-probability",
    title="With high probability the error of a near-optimal mask is of the order ‖X‖‖w‖/√(βs)",
    statement=(
        r"\mathbb{P}\Big(\|X(m\circ w)-Xw\|>\frac{\eta}{\sqrt{\beta s}}\|X\|_F\|w\|\Big)\le\delta,"
        r"\qquad\eta=1+\sqrt{\tfrac8\beta\log\tfrac1\delta}"
    ),
    sources=(Source("drineas2006matmul", "stated", "Theorem 1"), BAR),
    kind=Probability(),
    cases=(*MANY_DRAWS, Case("three-coins", _three_coins)),
    trial=_high_probability,
    hypotheses=SOME_ITEM,
    draw=draw_multinomial,
    mutants=("mean term alone",),
    note=(
        "No instance reaches this bound. By McDiarmid's inequality η = 1+√((2/β)log(1/δ)) is enough, so that no "
        "resolution can be above 0.61, 0.58 and 0.57 for δ = 0.2, 0.05 and 0.01. The tightest instances "
        "known reach 0.38, 0.38 and 0.39: of one sample, where the error is that of a binomial mean, and β = 1, "
        "over all probabilities and up to 200 draws. Three coins are the first of these."
    ),
)


def _sharp(instance: Linear, mask: Float[Array, " d"]) -> dict[str, Sides]:
    x, w, s = instance.x, instance.w, instance.budget
    mean, total = _mean_error(instance), jnp.sum(sketch.magnitudes(x, w))
    right = _sides(instance, mask, [sketch.mcdiarmid_tail(x, w, s, delta) for delta in DELTAS])
    quarter = jnp.stack([mean + total * jnp.sqrt(jnp.log(1 / delta) / (4 * s)) for delta in DELTAS])
    return {
        "claim": right,
        "mean term alone": right._replace(theory=jnp.full(len(DELTAS), mean)),
        "¼ for 2": right._replace(theory=quarter),
    }


def _coin(rng: Rng, dataset: Dataset) -> Linear:
    """Two opposite items: the error is a symmetric random walk of 50 to 100 steps."""
    return _two_items(rng, (1.0, -1.0), int(rng.integers(50, 101)), max_budget=100)


def _rare_item(rng: Rng, dataset: Dataset) -> Linear:
    """An item of probability 1/4 is drawn in all of three draws with probability 1/64, more than δ = 0.01."""
    return _two_items(rng, (3.0, -1.0), 3)


HIGH_PROBABILITY_SHARP = Claim(
    id="sketch/high-probability-sharp",
    title="At p* the error is concentrated around its mean, with small explicit constants",
    statement=(
        r"\mathbb{P}\bigg(\|X(m\circ w)-Xw\|>\sqrt{\frac{Z^2-\|Xw\|^2}{s}}"
        r"+Z\sqrt{\frac{2\log(1/\delta)}{s}}\bigg)\le\delta"
    ),
    sources=(BAR, DKM),
    kind=Probability(),
    cases=(*MANY_DRAWS, Case("rare-item", _rare_item), Case("coin", _coin)),
    trial=_sharp,
    hypotheses=SOME_ITEM,
    draw=lambda instance, key: _optimal(instance).sample(key),
    mutants=("mean term alone", "¼ for 2"),
    note="By McDiarmid's inequality: one draw changes the error by at most 2Z/s.",
)


# --- sketch/top-k


def _top_k(instance: Linear, _: Key) -> dict[str, Sides]:
    sizes = sketch.magnitudes(instance.x, instance.w)
    keep = instance.budget % len(sizes)
    # The highest of a score that depends on the items, and of one that does not.
    kept = jnp.stack([masks.keep_top(sizes, keep), masks.keep_top(instance.tilt, keep)])
    removed = jnp.where(kept, 0, sizes)
    measured = jax.vmap(lambda mask: error(instance, mask))(kept.astype(sizes.dtype))
    theory, dense = jnp.sum(removed, axis=1) ** 2, squared(instance.x @ instance.w) + 0 * measured
    right = Sides(measured, theory, scale=jnp.sum(sizes) ** 2 + 0 * measured, trivial=dense)
    return {"claim": right, "Σa² for (Σa)²": right._replace(theory=jnp.sum(removed**2, axis=1))}


def _aligned(rng: Rng, dataset: Dataset) -> Linear:
    """Parallel columns and positive weights: the error equals the bound."""
    x = rng.standard_normal((ROWS, 1)) * np.ones(FEATURES)
    return draw_instance(rng, x, np.zeros(ROWS), w=abs(random_weights(rng, FEATURES)))


TOP_K = Claim(
    id="sketch/top-k",
    title="The error of any 0/1 mask is at most (Σ a_i)², summed over the items that it removes",
    statement=r"\|X(1_T\circ w)-Xw\|^2\le\Big(\sum_{i\notin T}a_i\Big)^2",
    sources=(BAR,),
    kind=Bound(search=("x", "w")),
    cases=(*EVALUATED, Case("aligned", _aligned)),
    trial=_top_k,
    mutants=("Σa² for (Σa)²",),
)

TAILS = (HIGH_PROBABILITY, HIGH_PROBABILITY_SHARP, TOP_K)
