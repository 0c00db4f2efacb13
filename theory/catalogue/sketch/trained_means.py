"""sketch/: the expected error after training, for random masks and for random data. The measured side trains."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sketchprune import laws, linalg, masks
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.sketch.cases import (  # fmt: skip
    FEATURES,
    ROWS,
    SAMPLED,
    SMALL,
    SMALL_FEATURES,
    TESTED_ROWS,
    Linear,
    Rng,
    draw_instance,
    gaussian,
    narrow,
    normal_tails,
    rows_of,
    some_item,
    uncorrelated,
)
from theory.catalogue.sketch.moments import BAR
from theory.catalogue.sketch.training import VectorMask, trained_error, trained_weights
from theory.catalogue.squares import squared
from theory.claim import Case, Claim, Sides
from theory.kinds import Expectation

# --- sketch/training-error-ridge


class Ridge(NamedTuple):
    """Bounds on the expected training error.

    Attributes:
        instance: the instance.
        bounds: for the poisson law, and for the multinomial law.
        mutant: the same with half the penalty in the first.
    """

    instance: Linear
    bounds: Float[Array, "2"]
    mutant: Float[Array, "2"]


def _ridge_bounds(instance: Linear) -> Ridge:
    x, y, rates = instance.x, instance.y, instance.rates
    multinomial = instance.multinomial.training_bound(x, y)
    # Halving D: 1/π' − 1 = (1/π − 1)/2.
    halved = laws.Poisson(2 * rates / (1 + rates)).training_bound(x, y)
    poisson = instance.poisson.training_bound(x, y)
    return Ridge(instance, jnp.stack([poisson, multinomial]), jnp.stack([halved, multinomial]))


def _draw_ridge(ridge: Ridge, key: Key) -> Float[Array, "2 d"]:
    first, second = jax.random.split(key)
    instance = ridge.instance
    return jnp.stack([instance.poisson.sample(first), instance.multinomial.sample(second)])


def _enumerate_ridge(ridge: Ridge) -> tuple[Array, Array]:
    """All supports, with their probabilities under either law; training depends on the support alone."""
    instance = ridge.instance
    subsets, poisson = laws.Poisson(instance.rates, binary=True).outcomes()
    sequences, chances = instance.multinomial.outcomes()
    same = jnp.all((sequences > 0)[None] == (subsets > 0)[:, None], axis=2)
    outcomes = jnp.repeat(subsets[:, None], 2, axis=1)
    return outcomes, jnp.stack([poisson, jnp.where(same, chances, 0).sum(axis=1)], axis=1)


def _ridge(ridge: Ridge, kept: Float[Array, "2 d"]) -> dict[str, Sides]:
    x, y = ridge.instance.x, ridge.instance.y
    measured = jax.vmap(lambda mask: trained_error(x, y, mask))(kept)
    right = Sides(measured, ridge.bounds, scale=squared(y), range=squared(y))
    return {"claim": right, "D/2 for D": right._replace(theory=ridge.mutant)}


def _orthogonal(rng: Rng, dataset: Dataset) -> Linear:
    """Orthogonal columns, for which the bound on poisson masks is an equality."""
    x = np.linalg.qr(gaussian(rng))[0] * rng.lognormal(size=FEATURES)
    return draw_instance(rng, x, x @ rng.standard_normal(FEATURES) + 0.1 * rng.standard_normal(ROWS))


TRAINING_ERROR_RIDGE = Claim(
    id="sketch/training-error-ridge",
    title="The expected training error of a random mask is at most that of a ridge regression",
    statement=(
        r"\mathbb{E}\,\|Xu_\infty-y\|^2\le y^\top(I+XD^{-1}X^\top)^{-1}y,"
        r"\qquad D=\operatorname{diag}\big((\tfrac1{\pi_i}-1)\|x_i\|^2\big)"
    ),
    sources=(BAR,),
    kind=Expectation("at most"),
    cases=(*SAMPLED, Case("orthogonal", _orthogonal), *SMALL),
    trial=_ridge,
    batch=1024,
    prepare=_ridge_bounds,
    hypotheses={"some w_i x_i is not zero": lambda ridge: some_item(ridge.instance)},
    draw=_draw_ridge,
    outcomes=_enumerate_ridge,
    mutants=("D/2 for D",),
    note=(
        "Training does at least as well as m∘w, for every w: take the expectation, then the best w. Components: "
        "poisson masks, and multinomial masks with H = (1−1/s)XᵀX + diag(‖x_i‖²/p_i)/s. Deviations are relative "
        "to ‖y‖²."
    ),
)


# --- sketch/dpp-training-error


class Determinantal(NamedTuple):
    """A determinantal law on columns, and the expectations that theory gives.

    Attributes:
        instance: the instance.
        law: P(S) ∝ det(X_SᵀX_S/τ).
        theory: the expected error, the expected size, and on small instances the expected error at a fixed size.
        mutant: the same with a wrong error.
    """

    instance: Linear
    law: laws.Determinantal
    theory: Float[Array, "3"]
    mutant: Float[Array, "3"]


FIXED_SIZE = 3


def _determinantal(instance: Linear) -> Determinantal:
    x, y = instance.x, instance.y
    tau = instance.beta * jnp.sum(x**2) / 8
    law = laws.Determinantal.ridge(x, tau)
    theory = [law.training_bound(x, y), laws.effective_dimension(x, tau)]
    if x.shape[1] == SMALL_FEATURES:  # no other case is as narrow
        theory.append(laws.fixed_size_dpp_error(x, y, FIXED_SIZE))
    rows = jnp.eye(x.shape[0])
    wrong = tau**2 * squared(jnp.linalg.solve(x @ x.T + tau * rows, y))
    both = jnp.stack(theory)
    return Determinantal(instance, law, both, both.at[0].set(wrong))


def _some_column(model: Determinantal) -> Bool[Array, ""]:
    return jnp.any(model.instance.x != 0)


def _sizes_are_possible(model: Determinantal) -> Bool[Array, ""]:
    """Masks of the fixed size have a chance far above rounding; there are none where no size is fixed."""
    _, singular, _ = linalg.thin_svd(model.instance.x)
    return jnp.asarray(model.theory.shape[0] < 3) | (singular[FIXED_SIZE - 1] > 0.02 * singular[0])


def _enumerate_determinantal(model: Determinantal) -> tuple[Array, Array]:
    """All subsets, with one column of probabilities for each component.

    Error and size have the probabilities of the law. The third component has those of the law given the size, which
    are in proportion to det X_SᵀX_S for any τ.
    """
    subsets, chances = model.law.outcomes()
    fixed = jnp.where(subsets.sum(axis=1) == FIXED_SIZE, chances, 0)
    return subsets.astype(chances.dtype), jnp.stack([chances, chances, fixed / fixed.sum()], axis=1)


def _dpp(model: Determinantal, kept: VectorMask) -> dict[str, Sides]:
    left = trained_error(model.instance.x, model.instance.y, kept)
    measured = jnp.stack([left, jnp.sum(kept), left][: model.theory.shape[0]])
    right = Sides(measured, model.theory)
    return {"claim": right, "τ²yᵀ(XXᵀ+τI)⁻²y": right._replace(theory=model.mutant)}


DPP_TRAINING_ERROR = Claim(
    id="sketch/dpp-training-error",
    title="The expected training error of a determinantal mask equals that of a ridge regression",
    statement=(
        r"P(S)\propto\det(X_S^\top X_S/\tau):\quad\mathbb{E}\,\|Xu_\infty-y\|^2=\tau y^\top(XX^\top+\tau I)^{-1}y,"
        r"\quad\mathbb{E}|S|=\operatorname{Tr}XX^\top(XX^\top+\tau I)^{-1}"
    ),
    sources=(BAR,),
    kind=Expectation(),
    cases=(Case("{data}", narrow), *SMALL),
    batch=128,
    hypotheses={
        "some column is not zero": _some_column,
        "where the size is fixed at 3, X has three singular values above 2 % of the largest": _sizes_are_possible,
    },
    trial=_dpp,
    prepare=_determinantal,
    draw=lambda model, key: model.law.sample(key),
    outcomes=_enumerate_determinantal,
    mutants=("τ²yᵀ(XXᵀ+τI)⁻²y",),
    note="Components: error and size; and where all subsets are enumerated, the error at the fixed size 3.",
)


# --- sketch/gaussian-risk

SAMPLES, TESTED, MODEL = 24, 64, 12


class Risk(NamedTuple):
    """A Gaussian data set: training samples, test samples, and the mask."""

    x: Float[Array, "n d"]
    y: Float[Array, " n"]
    test_x: Float[Array, "t d"]
    test_y: Float[Array, " t"]
    kept: Float[Array, " d"]


def _draw_risk(instance: Linear, key: Key) -> Risk:
    data_key, noise_key = jax.random.split(key)
    w = instance.w
    x = jax.random.normal(data_key, (SAMPLES + TESTED, MODEL), w.dtype)
    y = x @ w + _noise(instance) * jax.random.normal(noise_key, (SAMPLES + TESTED,), w.dtype)
    kept = masks.keep_top(abs(w), instance.budget).astype(w.dtype)
    return Risk(x[:SAMPLES], y[:SAMPLES], x[SAMPLES:], y[SAMPLES:], kept)


def _noise(instance: Linear) -> Float[Array, ""]:
    return 2 * instance.beta


def _gaussian_risk(instance: Linear, risk: Risk) -> dict[str, Sides]:
    weights, s = trained_weights(risk.x, risk.y, risk.kept), instance.budget
    measured = jnp.stack([squared(risk.x @ weights - risk.y), squared(risk.test_x @ weights - risk.test_y) / TESTED])
    noise = _noise(instance) ** 2
    missing = noise + squared(jnp.where(risk.kept > 0, 0, instance.w))

    def theory(variance: Array, freedom: Array) -> Array:
        return jnp.stack([(SAMPLES - s) * variance, variance * (SAMPLES - 1) / freedom])

    right = Sides(measured, theory(missing, SAMPLES - s - 1))
    return {
        "claim": right,
        "n − s for n − s − 1": right._replace(theory=theory(missing, SAMPLES - s)),
        "σ² for σ_S²": right._replace(theory=theory(noise, SAMPLES - s - 1)),
    }


def _risk_on_gaussian(rng: Rng, dataset: Dataset) -> Linear:
    return _risk_on(rng, rng.standard_normal((TESTED_ROWS, MODEL)))


def _risk_on_real(rng: Rng, dataset: Dataset) -> Linear:
    return _risk_on(rng, rows_of(rng, dataset, MODEL))


def _risk_on(rng: Rng, x: np.ndarray) -> Linear:
    """Trials draw data of their own; the hypothesis is tested on these rows."""
    return draw_instance(rng, x, np.zeros(len(x))).replace(budget=rng.integers(3, 9))


GAUSSIAN_RISK = Claim(
    id="sketch/gaussian-risk",
    title="The expected training and test errors of a pruned linear model, trained on Gaussian data",
    statement=(
        r"\mathbb{E}\,\text{train}=(n-s)\,\sigma_S^2,\quad\mathbb{E}\,\text{test}=\sigma_S^2\frac{n-1}{n-s-1},"
        r"\qquad\sigma_S^2=\sigma^2+\|w_{S^c}\|^2"
    ),
    sources=(BAR,),
    kind=Expectation(),
    cases=(Case("gaussian", _risk_on_gaussian), Case("{data}", _risk_on_real)),
    trial=_gaussian_risk,
    draw=_draw_risk,
    hypotheses={
        "rows of X are N(0, I), by their second and fourth moments": lambda instance: (
            uncorrelated(instance.x) & normal_tails(instance.x)
        )
    },
    mutants=("n − s for n − s − 1", "σ² for σ_S²"),
    note=(
        "The mask that keeps the largest |w| is then the best of those that do not depend on the data. Every trial "
        "draws Gaussian data. The rows of images are not Gaussian, so that case is UNMET."
    ),
)

TRAINED_MEANS = (TRAINING_ERROR_RIDGE, DPP_TRAINING_ERROR, GAUSSIAN_RISK)
