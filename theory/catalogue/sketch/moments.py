"""sketch/: the expected error of a random mask, and the law that makes it least."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import laws, sketch
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.sketch.cases import (  # fmt: skip
    BUDGET,
    EVALUATED,
    FEATURES,
    MANY_DRAWS,
    ROWS,
    SAMPLED,
    SMALL,
    SOME_ITEM,
    Linear,
    Rng,
    draw_instance,
    gaussian,
    random_signs,
    random_weights,
)
from theory.catalogue.squares import squared
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Bound, Expectation, Identity

DKM = Source("drineas2006matmul", "stated", "Lemma 4")
BAR = Source("bar2023sketching")


def error(instance: Linear, mask: Float[Array, " d"]) -> Float[Array, ""]:
    """‖X(m∘w) − Xw‖², measured by predicting with both."""
    return squared(instance.x @ (mask * instance.w) - instance.x @ instance.w)


def expected_error(
    x: Float[Array, "n d"], w: Float[Array, " d"], p: Float[Array, " d"], budget: Array
) -> Float[Array, ""]:
    """E‖X(m∘w) − Xw‖² of a multinomial mask, from the d outcomes of one of its s independent draws.

    Nothing of :mod:`sketchprune.laws` is used, so that this can be the measured side of claims.
    """
    drawn = jnp.where(p > 0, w / jnp.where(p > 0, p, 1), 0)
    misses = x * drawn - (x @ w)[:, None]
    return p @ jnp.sum(misses**2, axis=0) / budget


def largest_error(instance: Linear, p: Float[Array, " d"]) -> Float[Array, ""]:
    """The largest error of a multinomial mask: the error is convex in the counts, so all draws hit one item.

    NaN where budgets are large: such a mask is so rare there that an interval based on its error would be useless.
    """
    items = instance.x * jnp.where(p > 0, instance.w / jnp.where(p > 0, p, 1), 0)
    largest = jnp.max(jnp.sum((items - (instance.x @ instance.w)[:, None]) ** 2, axis=0))
    return largest if instance.max_budget <= BUDGET else jnp.full_like(largest, jnp.nan)


def draw_multinomial(instance: Linear, key: Key) -> Float[Array, " d"]:
    """A mask drawn with the near-optimal probabilities."""
    return instance.multinomial.sample(key)


# --- sketch/unbiased


def _draw_both(instance: Linear, key: Key) -> tuple[Array, Array]:
    first, second = jax.random.split(key)
    return draw_multinomial(instance, first), instance.poisson.sample(second)


def _enumerate_both(instance: Linear) -> tuple[tuple[Array, Array], Array]:
    multinomial, chances = instance.multinomial.outcomes()
    poisson, others = instance.poisson.outcomes()
    extra = multinomial.shape[0] - poisson.shape[0]
    poisson, others = jnp.pad(poisson, ((0, extra), (0, 0))), jnp.pad(others, (0, extra))
    rows = instance.x.shape[0]
    return (multinomial, poisson), jnp.repeat(jnp.stack([chances, others], axis=1), rows, axis=1)


def mixing(rows: int) -> Float[np.ndarray, "n n"]:
    """Hartley's matrix, orthogonal: it spreads a sample evenly over all rows."""
    angle = 2 * np.pi / rows * np.outer(np.arange(rows), np.arange(rows))
    return (np.cos(angle) + np.sin(angle)) / np.sqrt(rows)


def _unbiased(instance: Linear, outcome: tuple[Array, Array]) -> dict[str, Sides]:
    # Compressed data may have rows with a single entry. A rare item would be all that such a prediction sees.
    x, w = jnp.asarray(mixing(len(instance.x)), instance.x.dtype) @ instance.x, instance.w
    both = jnp.stack(outcome)
    squares = (x * w) ** 2
    rates = jnp.stack([instance.near_optimal * instance.budget, instance.rates])
    deviation = jnp.sqrt(jnp.sum(squares / jnp.where(rates > 0, rates, 1)[:, None], axis=-1))
    # A prediction that hardly depends on the mask is judged by the others.
    deviation = jnp.maximum(deviation, 1e-3 * jnp.max(deviation, axis=1, keepdims=True))

    def sides(kept: Float[Array, "2 d"]) -> Sides:
        predictions = (kept * w) @ x.T
        return Sides(
            predictions,
            jnp.broadcast_to(x @ w, predictions.shape),
            scale=deviation,
        )

    return {"claim": sides(both), "binary mask": sides((both > 0).astype(w.dtype))}


UNBIASED = Claim(
    id="sketch/unbiased",
    title="A reweighted random mask predicts what the dense model predicts, on average",
    statement=r"\mathbb{E}\,[X(m\circ w)] = Xw",
    sources=(Source("drineas2006matmul", "stated"), BAR),
    kind=Expectation(),
    cases=(*SAMPLED, *SMALL),
    trial=_unbiased,
    hypotheses=SOME_ITEM,
    draw=_draw_both,
    outcomes=_enumerate_both,
    mutants=("binary mask",),
    note=(
        "For multinomial and poisson masks. Each prediction, after an orthogonal change of the samples that mixes "
        "them, is a component, relative to its own standard deviation."
    ),
)


# --- sketch/second-moment


def _second_moment(instance: Linear, mask: Float[Array, " d"]) -> dict[str, Sides]:
    p, dense = instance.near_optimal, squared(instance.x @ instance.w)
    theory = instance.multinomial.error(instance.items)
    right = Sides(error(instance, mask), theory, range=largest_error(instance, p))
    return {
        "claim": right,
        "without −‖Xw‖²": right._replace(theory=theory + dense / instance.budget),
        "s + 1 for s": right._replace(theory=theory * instance.budget / (instance.budget + 1)),
    }


SECOND_MOMENT = Claim(
    id="sketch/second-moment",
    title="The expected error of a multinomial mask",
    statement=r"\mathbb{E}\,\|X(m\circ w)-Xw\|^2=\frac1s\Big(\sum_i\frac{a_i^2}{p_i}-\|Xw\|^2\Big)",
    sources=(DKM, BAR),
    kind=Expectation(),
    cases=(*MANY_DRAWS, *SMALL),
    trial=_second_moment,
    hypotheses=SOME_ITEM,
    draw=draw_multinomial,
    outcomes=lambda instance: instance.multinomial.outcomes(),
    mutants=("without −‖Xw‖²", "s + 1 for s"),
)


# --- sketch/optimal-probabilities


def _optimal(instance: Linear, _: Key) -> dict[str, Sides]:
    x, w, s = instance.x, instance.w, instance.budget
    sizes = sketch.magnitudes(x, w)
    p, best = instance.near_optimal, sketch.optimal_probabilities(x, w)
    at_p = expected_error(x, w, p, s)
    total = jnp.sum(sizes) ** 2 / s

    def excess(law: Float[Array, " d"]) -> Array:
        """What p costs beyond ``law``, measured; and Z²χ²(law‖p)/s, which it is if ``law`` is optimal."""
        measured = (at_p - expected_error(x, w, law, s)) / total
        return jnp.stack([measured, sketch.chi_square(law, p)])

    # KKT at p*: the derivative is one constant, the multiplier, where p* > 0, and no smaller elsewhere.
    slope = jax.grad(lambda law: expected_error(x, w, law, s))(best) / total
    above = slope - best @ slope
    stationary = jnp.where(best > 0, above, jnp.minimum(above, 0))

    def sides(law: Float[Array, " d"]) -> Sides:
        measured, theory = excess(law)
        measured = jnp.append(stationary, measured)
        return Sides(
            measured,
            jnp.append(jnp.zeros_like(stationary), theory),
            scale=jnp.ones_like(measured) * (1 + theory),
        )

    return {
        "claim": sides(best),
        "p ∝ a²": sides(sizes**2 / jnp.sum(sizes**2)),
        "p ∝ |w|": sides(sketch.data_free_probabilities(w)),
    }


OPTIMAL_PROBABILITIES = Claim(
    id="sketch/optimal-probabilities",
    title="Sampling in proportion to a_i = ‖x_i‖|w_i| has the least expected error",
    statement=r"\mathbb{E}_p-\mathbb{E}_{p^*}=\frac{Z^2}{s}\,\chi^2(p^*\|p),\qquad p^*_i=\frac{a_i}{Z}",
    sources=(DKM, BAR),
    kind=Identity(),
    cases=EVALUATED,
    trial=_optimal,
    hypotheses=SOME_ITEM,
    mutants=("p ∝ a²", "p ∝ |w|"),
    note="Components: the stationarity of p* on every item (KKT conditions), then the excess error at a random p.",
)


# --- sketch/near-optimal


def _near_optimal(instance: Linear, _: Key) -> dict[str, Sides]:
    x, w, beta, s = instance.x, instance.w, instance.beta, instance.budget
    p = beta * sketch.optimal_probabilities(x, w) + (1 - beta) * instance.tilt
    right = Sides(expected_error(x, w, p, s), sketch.near_optimal_bound(x, w, s, beta=beta), trivial=squared(x @ w))
    wrong = sketch.near_optimal_bound(x, w, s, beta=jnp.sqrt(beta))
    return {"claim": right, "√β for β": right._replace(theory=wrong)}


def _one_tiny_item(rng: Rng, dataset: Dataset) -> Linear:
    """β p* everywhere, except that one tiny item takes the rest of the probability."""
    x = np.eye(ROWS, FEATURES)
    x[0, 0] = 1e-6
    return draw_instance(rng, x, np.zeros(ROWS), w=random_signs(rng, FEATURES)).replace(tilt=np.eye(FEATURES)[0])


NEAR_OPTIMAL = Claim(
    id="sketch/near-optimal",
    title="Probabilities of at least β times the optimal ones cost at most a factor 1/β",
    statement=(
        r"p\ge\beta p^*\;\Rightarrow\;\mathbb{E}\,\|X(m\circ w)-Xw\|^2"
        r"\le\frac1s\Big(\frac{Z^2}{\beta}-\|Xw\|^2\Big)"
    ),
    sources=(DKM, BAR),
    kind=Bound(search=("x", "w")),
    cases=(*EVALUATED, Case("one-tiny-item", _one_tiny_item)),
    trial=_near_optimal,
    hypotheses=SOME_ITEM,
    mutants=("√β for β",),
)


# --- sketch/frobenius


def _frobenius(instance: Linear, _: Key) -> dict[str, Sides]:
    x, w, beta, s = instance.x, instance.w, instance.beta, instance.budget
    p = beta * sketch.optimal_probabilities(x, w) + (1 - beta) * instance.tilt
    measured = jnp.stack([jnp.sum(sketch.magnitudes(x, w)) ** 2, expected_error(x, w, p, s)])
    theory = jnp.stack([squared(x) * squared(w), sketch.frobenius_bound(x, w, s, beta=beta)])
    right = Sides(measured, theory, trivial=jnp.stack([jnp.asarray(jnp.inf, theory.dtype), squared(x @ w)]))
    return {"claim": right, "half": right._replace(theory=theory / 2)}


def _norms_like_weights(rng: Rng, dataset: Dataset) -> Linear:
    """Columns of norm |w_i|: equality."""
    x, w = gaussian(rng), random_weights(rng, FEATURES)
    return draw_instance(rng, x / np.linalg.norm(x, axis=0) * abs(w), np.zeros(ROWS), w=w)


FROBENIUS = Claim(
    id="sketch/frobenius",
    title="The expected error is at most ‖X‖²‖w‖²/(βs)",
    statement=r"Z^2\le\|X\|_F^2\|w\|^2,\qquad\mathbb{E}\,\|X(m\circ w)-Xw\|^2\le\frac{\|X\|_F^2\|w\|^2}{\beta s}",
    sources=(DKM, BAR),
    kind=Bound(search=("x", "w")),
    cases=(*EVALUATED, Case("norms-like-weights", _norms_like_weights)),
    trial=_frobenius,
    hypotheses=SOME_ITEM,
    mutants=("half",),
)


# --- sketch/poisson


def _poisson(instance: Linear, mask: Float[Array, " d"]) -> dict[str, Sides]:
    x, w, rates = instance.x, instance.w, instance.rates
    sizes = sketch.magnitudes(x, w)
    theory = instance.poisson.error(instance.items)
    # Among rates with the same sum, water-filling has the least error; the gap is 0 where it does.
    budget = jnp.minimum(jnp.sum(jnp.where(sizes > 0, rates, 0)), jnp.sum(sizes > 0))
    filled = laws.Poisson.proportional(sizes, budget).error(instance.items)
    gap = jnp.maximum((filled - theory) / theory, 0)
    gap = jnp.where(gap < 1e-5, 0, gap)
    right = Sides(jnp.stack([error(instance, mask), gap]), jnp.stack([theory, jnp.zeros_like(gap)]),
                  scale=jnp.stack([theory, jnp.ones_like(gap)]))  # fmt: skip
    multinomial = jnp.sum(sizes**2 / rates) - squared(x @ w)
    return {"claim": right, "multinomial formula": right._replace(theory=right.theory.at[0].set(multinomial))}


POISSON = Claim(
    id="sketch/poisson",
    title="The expected error of independent inclusion, and the rates that make it least",
    statement=(
        r"\mathbb{E}\,\|X(m\circ w)-Xw\|^2=\sum_i a_i^2\Big(\frac1{\pi_i}-1\Big),"
        r"\qquad\pi^*_i=\min(1,\lambda a_i)"
    ),
    sources=(BAR,),
    kind=Expectation(),
    cases=(*EVALUATED, *SMALL),
    trial=_poisson,
    hypotheses=SOME_ITEM,
    draw=lambda instance, key: instance.poisson.sample(key),
    outcomes=lambda instance: instance.poisson.outcomes(),
    mutants=("multinomial formula",),
    note="The second component is the excess error of water-filled rates over the random ones, which must be 0.",
)


# --- sketch/binary-bias-variance


def _binary(instance: Linear, mask: Float[Array, " d"]) -> dict[str, Sides]:
    rates, sizes = instance.rates, sketch.magnitudes(instance.x, instance.w)
    theory = laws.Poisson(rates, binary=True).error(instance.items)
    right = Sides(error(instance, mask), theory)
    return {"claim": right, "variance only": right._replace(theory=jnp.sum(rates * (1 - rates) * sizes**2))}


BINARY_BIAS_VARIANCE = Claim(
    id="sketch/binary-bias-variance",
    title="The expected error of a 0/1 mask has a bias and a variance",
    statement=r"\mathbb{E}\,\|X(b\circ w)-Xw\|^2=\left\|\sum_i(1-\pi_i)w_ix_i\right\|^2+\sum_i\pi_i(1-\pi_i)a_i^2",
    sources=(BAR,),
    kind=Expectation(),
    cases=(*EVALUATED, *SMALL),
    trial=_binary,
    hypotheses=SOME_ITEM,
    draw=lambda instance, key: laws.Poisson(instance.rates, binary=True).sample(key),
    outcomes=lambda instance: laws.Poisson(instance.rates, binary=True).outcomes(),
    mutants=("variance only",),
)

MOMENTS = (
    UNBIASED, SECOND_MOMENT, OPTIMAL_PROBABILITIES, NEAR_OPTIMAL, FROBENIUS, POISSON, BINARY_BIAS_VARIANCE,
)  # fmt: skip
