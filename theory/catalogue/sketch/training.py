"""sketch/: the error that is left after training what a mask keeps. The measured side trains, always."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sketchprune import linear, masks, sketch, train
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.sketch.cases import (
    ALL,
    COMMON,
    FEATURES,
    ROWS,
    SMALL,
    SMALL_FEATURES,
    Linear,
    Rng,
    all_multinomial,
    all_poisson,
    all_subsets,
    complete,
    gaussian,
)  # fmt: skip
from theory.catalogue.sketch.moments import BAR, squared
from theory.claim import Bound, Case, Claim, Expectation, Sides

STEPS = 10_000
"""Steps after which training ends where the gradient has not vanished before."""


def predict(params: Float[Array, " d"], x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return x @ params


def half_squares(outputs: Float[Array, " n"], targets: Float[Array, "n 2"]) -> Float[Array, ""]:
    """η‖f − y‖²/2: the step size η comes with the targets, so that one optimiser serves all instances."""
    return targets[0, 1] * squared(outputs - targets[:, 0]) / 2


def with_step(y: Float[Array, " n"], step: Float[Array, ""]) -> Float[Array, "n 2"]:
    return jnp.stack([y, jnp.broadcast_to(step, y.shape)], axis=1)


def trained(x: Float[Array, "n d"], y: Float[Array, " n"], kept: Float[Array, " d"]) -> Float[Array, " d"]:
    """What optax's accelerated gradient descent on the kept coordinates converges to, from zero.

    Coordinates are scaled so that columns have unit norm: what they can fit, hence the error at the end, stays
    the same, and columns of very unequal size no longer take millions of steps.
    """
    norms = jnp.linalg.norm(x, axis=0)
    scale = jnp.where(norms > 0, 1 / jnp.where(norms > 0, norms, 1), 0)
    unit = x * scale
    kept = (kept != 0).astype(x.dtype)
    # Gershgorin's bound on the kept columns' largest eigenvalue.
    largest = jnp.max(kept * (abs(unit.T @ unit) @ kept))
    # In float64 to rounding; the float32 of a sampled mean needs less.
    momentum, tolerance = (0.98, 5e-14) if x.dtype == jnp.float64 else (0.9, 1e-5)
    step = 1 / jnp.maximum(largest, 1)
    params, *_ = train.converge(
        predict,
        half_squares,
        jnp.zeros_like(norms),
        (unit, with_step(y, step)),
        optax.sgd(1.0, momentum=momentum, nesterov=True),
        STEPS,
        mask=kept,
        tolerance=tolerance * step * jnp.linalg.norm(y),
    )
    return scale * params


def trained_error(x: Float[Array, "n d"], y: Float[Array, " n"], kept: Float[Array, " d"]) -> Float[Array, ""]:
    """‖Xu − y‖² after training the kept coordinates."""
    return squared(x @ trained(x, y, kept) - y)


# --- sketch/transfer


class Transfer(NamedTuple):
    """A model before and after training, and the law that its initial weights give.

    Attributes:
        instance: the instance; its ``w`` are the initial weights.
        law: [d], nine parts p* of the initial weights and one part uniform.
        end: [d], the trained weights w*.
    """

    instance: Linear
    law: Float[Array, " d"]
    end: Float[Array, " d"]


def _train_dense(instance: Linear) -> Transfer:
    x, y, w = instance.x, instance.y, instance.w
    law = 0.9 * sketch.optimal_probabilities(x, w) + 0.1 * sketch.uniform_probabilities(w)
    step = 1 / jnp.sum(x**2)
    end, _ = train.fit(predict, half_squares, w, (x, with_step(y, step)), optax.sgd(1.0), 300)
    return Transfer(instance, law, end)


def _transfer(transfer: Transfer, mask: Float[Array, " d"]) -> dict[str, Sides]:
    (instance, law, end), x, s = transfer, transfer.instance.x, transfer.instance.budget

    def moment(w: Float[Array, " d"]) -> Array:
        return (jnp.sum(sketch.magnitudes(x, w) ** 2 / law) - squared(x @ w)) / s

    right = Sides(squared(x @ (mask * end) - x @ end), moment(end))
    return {"claim": right, "w0 for w*": right._replace(theory=moment(instance.w))}


TRANSFER = Claim(
    id="sketch/transfer",
    title="A mask drawn at initialisation, applied to the trained weights",
    statement=(
        r"\mathbb{E}\,\|X(m\circ w^*)-Xw^*\|^2=\frac1s\Big(\sum_i\frac{w_i^{*2}\|x_i\|^2}{p_i}"
        r"-\|Xw^*\|^2\Big),\qquad p\text{ from }w_0"
    ),
    sources=(BAR,),
    kind=Expectation(),
    cases=(*ALL, *SMALL),
    trial=_transfer,
    prepare=_train_dense,
    draw=lambda t, key: masks.multinomial(key, t.law, t.instance.budget, max_budget=t.instance.most),
    outcomes=lambda t: all_multinomial(t.law, t.instance.budget, t.instance.most),
    mutants=("w0 for w*",),
    note=(
        "w* is what 300 steps of optax gradient descent make of w0. The law is nine parts p*(w0), one part uniform: "
        "where w0 hardly uses a weight that training needs, the error has a heavy tail."
    ),
)


# --- sketch/training-error, sketch/training-error-at-t: bounds on one mask

KEPT = 12
"""Coordinates that such a mask keeps at most."""


def _draw_mask(instance: Linear, key: Key) -> Float[Array, " d"]:
    budget = jnp.minimum(instance.budget, KEPT)
    mask = masks.multinomial(key, instance.near_optimal, budget, max_budget=KEPT)
    return jnp.where(instance.whole, jnp.any(instance.x != 0, axis=0), mask)


def _whole(rng: Rng, dataset: Dataset) -> Linear:
    """As many columns as a mask may keep, and it keeps them all: pruning nothing attains the bound."""
    x = gaussian(rng)
    x[:, KEPT:] = 0
    return complete(rng, x, rng.standard_normal(ROWS), whole=True)


WHOLE = Case("whole", _whole)


class Kept(NamedTuple):
    """The model on the kept columns alone, after an orthogonal change of samples."""

    x: Float[Array, "r k"]
    y: Float[Array, " r"]
    start: Float[Array, " k"]


def _keep(instance: Linear, mask: Float[Array, " d"]) -> Kept:
    columns = jnp.nonzero(mask, size=KEPT, fill_value=mask.shape[0])[0]
    kept = instance.x.at[:, columns].get(mode="fill", fill_value=0)
    x, y = linear.compress(kept, instance.y)
    return Kept(x, y, instance.w.at[columns].get(mode="fill", fill_value=0))


def _training_error(instance: Linear, mask: Float[Array, " d"]) -> dict[str, Sides]:
    x, w, y = instance.x, instance.w, instance.y
    kept = _keep(instance, mask)
    measured = trained_error(kept.x, kept.y, jnp.ones(KEPT))
    end = linear.limit(x, y, w)
    transferred, rest = squared(x @ (mask * end) - x @ end), squared(x @ end - y)
    right = Sides(measured, transferred + rest, scale=squared(y), trivial=squared(y))
    return {
        "claim": right,
        "without ‖Xw*−y‖²": right._replace(theory=transferred),
        "without the transfer": right._replace(theory=rest),
    }


TRAINING_ERROR = Claim(
    id="sketch/training-error",
    title="Training what a mask keeps does at least as well as masking the trained weights",
    statement=r"\|Xu_\infty-y\|^2\le\|X(m\circ w^*)-Xw^*\|^2+\|Xw^*-y\|^2",
    sources=(BAR,),
    kind=Bound(),
    cases=(*ALL, WHOLE),
    trial=_training_error,
    draw=_draw_mask,
    mutants=("without ‖Xw*−y‖²", "without the transfer"),
    note=(
        "m∘w* is feasible and the residual of w* is orthogonal to the range of X. Very loose: "
        "training-error-ridge is the bound to use."
    ),
)

TIMES = (0, 1, 10, 100, 1_000, STEPS)


def _at_t(instance: Linear, mask: Float[Array, " d"]) -> dict[str, Sides]:
    x, y, start = _keep(instance, mask)
    values, vectors = jnp.linalg.eigh(x @ x.T)
    largest = values[-1]
    alive = values > len(values) * jnp.finfo(x.dtype).eps * largest
    step, least = 1 / largest, jnp.min(jnp.where(alive, values, largest))
    _, losses = train.fit(predict, half_squares, start, (x, with_step(y, step)), optax.sgd(1.0), STEPS + 1)
    measured = 2 * losses[jnp.array(TIMES)] / step
    along = vectors.T @ (x @ start - y)
    limit = squared(jnp.where(alive, 0, along))
    fades, times = squared(jnp.where(alive, along, 0)), jnp.array(TIMES, x.dtype)

    def bound(rate: Array) -> Array:
        return limit + jnp.exp(-2 * step * rate * times) * fades

    right = Sides(measured, bound(least), scale=limit + fades, trivial=squared(y) + 0 * measured)
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
    cases=(*ALL, WHOLE),
    trial=_at_t,
    draw=_draw_mask,
    mutants=("10λ⁺ for λ⁺",),
    note="Plain gradient descent by optax to t = 10⁴; eigenvalues up to n·eps of the largest count as zero.",
)


# --- sketch/training-error-ridge


class Ridge(NamedTuple):
    instance: Linear
    bounds: Float[Array, "2"]
    mutant: Float[Array, "2"]


def _ridge_bounds(instance: Linear) -> Ridge:
    x, y, rates = instance.x, instance.y, instance.rates
    multinomial = sketch.ridge_bound_multinomial(x, y, instance.near_optimal, instance.budget)
    # Halving D: 1/π' − 1 = (1/π − 1)/2.
    halved = sketch.ridge_bound(x, y, 2 * rates / (1 + rates))
    poisson = sketch.ridge_bound(x, y, rates)
    return Ridge(instance, jnp.stack([poisson, multinomial]), jnp.stack([halved, multinomial]))


def _draw_ridge(ridge: Ridge, key: Key) -> Float[Array, "2 d"]:
    first, second = jax.random.split(key)
    instance = ridge.instance
    poisson = masks.poisson(first, instance.rates)
    multinomial = masks.multinomial(second, instance.near_optimal, instance.budget, max_budget=instance.most)
    return jnp.stack([poisson, multinomial])


def _enumerate_ridge(ridge: Ridge) -> tuple[Array, Array]:
    """All supports, with their probabilities under either law: what can be trained depends on nothing else."""
    instance = ridge.instance
    subsets, poisson = all_subsets(instance.w.shape[0]), all_poisson(instance.rates)[1]
    sequences, chances = all_multinomial(instance.near_optimal, instance.budget, instance.most)
    same = jnp.all((sequences > 0)[None] == subsets[:, None], axis=2)
    outcomes = jnp.repeat(subsets[:, None].astype(poisson.dtype), 2, axis=1)
    return outcomes, jnp.stack([poisson, jnp.where(same, chances, 0).sum(axis=1)], axis=1)


def _ridge(ridge: Ridge, kept: Float[Array, "2 d"]) -> dict[str, Sides]:
    x, y = ridge.instance.x, ridge.instance.y
    measured = jax.vmap(lambda mask: trained_error(x, y, mask))(kept)
    right = Sides(measured, ridge.bounds, scale=squared(y), range=squared(y))
    return {"claim": right, "D/2 for D": right._replace(theory=ridge.mutant)}


def _orthogonal(rng: Rng, dataset: Dataset) -> Linear:
    """Orthogonal columns: the bound is an equality for independent inclusion."""
    x = np.linalg.qr(gaussian(rng))[0] * rng.lognormal(size=FEATURES)
    return complete(rng, x, x @ rng.standard_normal(FEATURES) + 0.1 * rng.standard_normal(ROWS))


TRAINING_ERROR_RIDGE = Claim(
    id="sketch/training-error-ridge",
    title="The expected training error of a random mask is at most a ridge regression's",
    statement=(
        r"\mathbb{E}\,\|Xu_\infty-y\|^2\le y^\top(I+XD^{-1}X^\top)^{-1}y,"
        r"\qquad D=\operatorname{diag}\big((\tfrac1{\pi_i}-1)\|x_i\|^2\big)"
    ),
    sources=(BAR,),
    kind=Expectation("at most"),
    cases=(*ALL, Case("orthogonal", _orthogonal), *SMALL),
    trial=_ridge,
    batch=2048,
    prepare=_ridge_bounds,
    draw=_draw_ridge,
    outcomes=_enumerate_ridge,
    mutants=("D/2 for D",),
    note=(
        "m∘w is feasible for every w: take the expectation, then the best w. Components: independent inclusion, and "
        "the multinomial law with H = (1−1/s)XᵀX + diag(‖x_i‖²/p_i)/s. Deviations are in units of ‖y‖²."
    ),
)


# --- sketch/dpp-training-error


class Determinantal(NamedTuple):
    """A determinantal law on columns.

    Attributes:
        instance: the instance.
        tau: the regulariser τ.
        kernel: [d, d], the marginal kernel XᵀX(XᵀX + τI)⁻¹.
        theory: the expected error and size, and the error at fixed size.
        mutant: the same with a false error.
    """

    instance: Linear
    tau: Float[Array, ""]
    kernel: Float[Array, "d d"]
    theory: Float[Array, "3"]
    mutant: Float[Array, "3"]


FIXED_SIZE = 3


def _determinantal(instance: Linear) -> Determinantal:
    x, y = instance.x, instance.y
    tau = instance.beta * jnp.sum(x**2) / 8
    gram = x.T @ x
    theory = [sketch.dpp_error(x, y, tau), sketch.dpp_size(x, tau)]
    if x.shape[1] <= SMALL_FEATURES:
        theory.append(sketch.fixed_size_dpp_error(x, y, FIXED_SIZE))
    rows = jnp.eye(x.shape[0])
    wrong = tau**2 * squared(jnp.linalg.solve(x @ x.T + tau * rows, y))
    both = jnp.stack(theory)
    return Determinantal(
        instance, tau, jnp.linalg.solve(gram + tau * jnp.eye(x.shape[1]), gram), both, both.at[0].set(wrong)
    )


def _enumerate_determinantal(law: Determinantal) -> tuple[Array, Array]:
    """All subsets; columns: the law of random size (twice: error and size), and that of fixed size."""
    subsets = all_subsets(law.kernel.shape[0]).astype(law.kernel.dtype)
    gram = law.instance.x.T @ law.instance.x / law.tau

    def determinant(kept: Float[Array, " d"]) -> Array:
        return jnp.linalg.det(gram * jnp.outer(kept, kept) + jnp.diag(1 - kept))

    volumes = jax.vmap(determinant)(subsets)
    fixed = jnp.where(subsets.sum(axis=1) == FIXED_SIZE, volumes, 0)
    chances = volumes / volumes.sum()
    return subsets, jnp.stack([chances, chances, fixed / fixed.sum()], axis=1)


def _dpp(law: Determinantal, kept: Float[Array, " d"]) -> dict[str, Sides]:
    left = trained_error(law.instance.x, law.instance.y, kept)
    measured = jnp.stack([left, jnp.sum(kept), left][: law.theory.shape[0]])
    right = Sides(measured, law.theory)
    return {"claim": right, "τ²yᵀ(XXᵀ+τI)⁻²y": right._replace(theory=law.mutant)}


DPP_TRAINING_ERROR = Claim(
    id="sketch/dpp-training-error",
    title="For determinantal masks the expected training error is exactly a ridge regression's",
    statement=(
        r"P(S)\propto\det(X_S^\top X_S/\tau):\quad\mathbb{E}\,\|Xu_\infty-y\|^2=\tau y^\top(XX^\top+\tau I)^{-1}y,"
        r"\quad\mathbb{E}|S|=\operatorname{Tr}XX^\top(XX^\top+\tau I)^{-1}"
    ),
    sources=(BAR,),
    kind=Expectation(),
    cases=(COMMON[-1], *SMALL),
    batch=128,
    trial=_dpp,
    prepare=_determinantal,
    draw=lambda law, key: masks.determinantal(key, law.kernel),
    outcomes=_enumerate_determinantal,
    mutants=("τ²yᵀ(XXᵀ+τI)⁻²y",),
    note="Components: error, size, and where all subsets are enumerated the error at the fixed size 3.",
)


# --- sketch/gaussian-risk

SAMPLES, TESTED, MODEL = 24, 64, 12


class Risk(NamedTuple):
    """A Gaussian data set: training and test samples, and what is kept."""

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
    weights, s = trained(risk.x, risk.y, risk.kept), instance.budget
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


def _risk_case(name: str, gaussian_rows: bool) -> Case:
    def make(rng: Rng, dataset: Dataset) -> Linear:
        instance = complete(rng, np.full((1, MODEL), float(gaussian_rows)), np.zeros(1))
        return instance.replace(budget=rng.integers(3, 9))

    return Case(name, make)


GAUSSIAN_RISK = Claim(
    id="sketch/gaussian-risk",
    title="On Gaussian data, the training and test error of a trained pruned model",
    statement=(
        r"\mathbb{E}\,\text{train}=(n-s)\,\sigma_S^2,\quad\mathbb{E}\,\text{test}=\sigma_S^2\frac{n-1}{n-s-1},"
        r"\qquad\sigma_S^2=\sigma^2+\|w_{S^c}\|^2"
    ),
    sources=(BAR,),
    kind=Expectation(),
    cases=(_risk_case("gaussian", True), _risk_case("{data}", False)),
    trial=_gaussian_risk,
    draw=_draw_risk,
    hypotheses={"rows of X are independent N(0, I)": lambda instance: instance.x[0, 0] == 1},
    mutants=("n − s for n − s − 1", "σ² for σ_S²"),
    note="Top-|w| is then the best data-free mask. Data are drawn in every trial; real rows are not Gaussian: UNMET.",
)

TRAINING = (
    TRANSFER, TRAINING_ERROR, TRAINING_ERROR_RIDGE, DPP_TRAINING_ERROR, TRAINING_ERROR_AT_T, GAUSSIAN_RISK,
)  # fmt: skip
