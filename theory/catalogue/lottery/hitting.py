"""lottery/: how many items must be added until their subset sums cover [−½, ½], as ε becomes smaller."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from sketchprune import lottery
from sketchprune.types import Key
from theory.catalogue.lottery.subset_sums import GADHIKAR, LUEKER, SPREAD, Items, item_quantiles, uniform_quantiles
from theory.claim import Case, Claim, Sides
from theory.kinds import Expectation

MAX_ITEMS = 16
"""Items that are added at most; seldom are more needed for the smallest ε."""
MAX_DENSITY = 2
"""Of items on [−½, ½], four times that of U[−1, 1]. Where items crowd near one point, the last halvings are cheap."""
EPSILONS = tuple(2.0**-power for power in range(2, 8))


def _rate(items: Items, key: Key) -> dict[str, Sides]:
    needed = lottery.hitting_numbers(items.draw(key, MAX_ITEMS), EPSILONS).astype(items.quantiles.dtype)
    least = jnp.log2(1 / (2 * jnp.asarray(EPSILONS, needed.dtype)))
    growth = needed[1:] - needed[:-1]
    steps = len(EPSILONS) - 1
    measured = jnp.concatenate([-needed, growth, -growth])
    right = Sides(
        measured,
        jnp.concatenate([-least, jnp.full(steps, 2.0), jnp.full(steps, -1.0)]),
        scale=jnp.ones(measured.shape),
    )
    last = jnp.arange(measured.size) >= len(EPSILONS) + steps
    polynomial = jnp.concatenate([-needed, growth, np.sqrt(2) * needed[:-1] - needed[1:]])
    return {
        "claim": right,
        "growth like ε^(−1/2)": right._replace(measured=polynomial, theory=jnp.where(last, 0, right.theory)),
        "log₂(1/(2ε)) + 1": right._replace(
            measured=jnp.concatenate([needed, growth, -growth]),
            theory=right.theory.at[: len(EPSILONS)].set(least + 1),
        ),
    }


def _do_not_crowd(items: Items) -> Bool[Array, ""]:
    """Whether no distance of quantiles on [−½, ½] is so small that items are denser there than MAX_DENSITY."""
    lower, upper = items.quantiles[:-1], items.quantiles[1:]
    distances = jnp.where((upper > -0.5) & (lower < 0.5), upper - lower, 1)
    return jnp.min(distances) * MAX_DENSITY >= 1 / len(distances)


def _all_kept(quantiles: np.ndarray) -> Items:
    return Items(quantiles, np.ones(()), np.asarray(EPSILONS[-1]), np.asarray(MAX_ITEMS))


SUBSET_SUM_RATE = Claim(
    id="lottery/subset-sum-rate",
    title="Each halving of ε takes between one and two more items",
    statement=(
        r"T(\varepsilon)\ge\log_2\frac1{2\varepsilon},\qquad"
        r"1\le\mathbb{E}\,T(\tfrac\varepsilon2)-\mathbb{E}\,T(\varepsilon)\le2"
    ),
    sources=(LUEKER, GADHIKAR),
    kind=Expectation("at most"),
    cases=(
        Case("uniform", lambda rng, dataset: _all_kept(uniform_quantiles())),
        Case("{data}", lambda rng, dataset: _all_kept(item_quantiles(rng, dataset))),
    ),
    trial=_rate,
    hypotheses=SPREAD | {"on [−½, ½] items have a density of at most 2": _do_not_crowd},
    mutants=("growth like ε^(−1/2)", "log₂(1/(2ε)) + 1"),
    batch=8,
    note=(
        "T(ε) is the number of random items, added one by one, after which each point of [−½, ½] is within ε of a "
        "subset sum. Components: the lower bound for ε = 2⁻² to 2⁻⁷, then the growth from above and from below. The "
        "bounds on the growth are what is measured for items such as these; the lower bound holds for all items."
    ),
)
