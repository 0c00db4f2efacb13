"""tangent/: a random mask sketches the tangent kernel. How far from it on average, and in the worst direction."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import laws, sketch
from sketchprune.types import Key
from theory.catalogue.sketch.moments import BAR, DKM
from theory.catalogue.squares import squared
from theory.catalogue.tangent.cases import (  # fmt: skip
    ALL,
    NON_ZERO,
    SMALL,
    Tangent,
    linearise,
)
from theory.claim import Claim, Sides
from theory.kinds import Expectation


def masked_kernel(tangent: Tangent, mask: Float[Array, " P"]) -> Float[Array, "N N"]:
    """Θ̂ = J diag(m) Jᵀ."""
    return (tangent.jacobian * mask) @ tangent.jacobian.T


def spectral_norm(symmetric: Float[Array, "N N"]) -> Float[Array, ""]:
    """The largest eigenvalue in absolute value."""
    return jnp.max(abs(jnp.linalg.eigvalsh(symmetric)))


# --- tangent/sketch-moment


def _draw_two(tangent: Tangent, key: Key) -> tuple[Array, Array]:
    one, other = jax.random.split(key)
    return tangent.multinomial(tangent.near_optimal).sample(one), tangent.multinomial(tangent.optimal).sample(other)


def _enumerate_two(tangent: Tangent) -> tuple[tuple[Array, Array], Array]:
    near, chances = tangent.multinomial(tangent.near_optimal).outcomes()
    best, others = tangent.multinomial(tangent.optimal).outcomes()
    entries = tangent.outputs.size**2
    return (near, best), jnp.concatenate(
        [jnp.stack([chances, chances, others], axis=1), jnp.repeat(chances[:, None], entries, axis=1)], axis=1
    )


def _largest_error(tangent: Tangent, law: Float[Array, " P"], theta: Array) -> Float[Array, ""]:
    """The largest ‖Θ̂−Θ‖²_F: it is convex in the counts, so all draws hit one weight."""
    weight = jnp.where(law > 0, 1 / jnp.where(law > 0, law, 1), 0)
    along = jnp.sum(tangent.jacobian * (theta @ tangent.jacobian), axis=0)
    return jnp.max((weight * tangent.sizes) ** 2 - 2 * weight * along) + squared(theta)


def _sketch_moment(tangent: Tangent, outcome: tuple[Array, Array]) -> dict[str, Sides]:
    near, best = outcome
    theta, s, law = tangent.kernel, tangent.network.budget, tangent.near_optimal
    trace = jnp.sum(tangent.sizes)
    sketched = masked_kernel(tangent, near)
    moment, least = (tangent.multinomial(p).error(tangent.items) for p in (law, tangent.optimal))
    entries = sketched.ravel()
    error = squared(sketched - theta)
    measured = jnp.concatenate([jnp.stack([error, error, squared(masked_kernel(tangent, best) - theta)]), entries])

    def sides(optimal: Float[Array, " P"]) -> Sides:
        """``optimal`` as the optimal law: what p costs beyond the optimum is (TrΘ)²χ²(optimal‖p)/s."""
        excess = trace**2 * sketch.chi_square(optimal, law) / s
        errors = jnp.stack([moment, least + excess, least])
        near_range, best_range = (_largest_error(tangent, p, theta) for p in (law, tangent.optimal))
        heaviest = jnp.max(tangent.sizes / law)
        return Sides(
            measured,
            jnp.concatenate([errors, theta.ravel()]),
            scale=jnp.concatenate([jnp.stack([moment, moment, least]), 0 * entries + jnp.sqrt(moment)]),
            range=jnp.concatenate([jnp.stack([near_range, near_range, best_range]), 0 * entries + 2 * heaviest]),
        )

    by_length = jnp.sqrt(tangent.sizes)
    return {"claim": sides(tangent.optimal), "p ∝ ‖J_i‖": sides(by_length / jnp.sum(by_length))}


SKETCH_MOMENT = Claim(
    id="tangent/sketch-moment",
    title="The expected error of a multinomial mask on the tangent kernel, and the law that makes it least",
    statement=(
        r"\mathbb{E}\,\hat\Theta=\Theta,\quad\mathbb{E}\,\|\hat\Theta-\Theta\|_F^2=\frac1s\Big(\sum_i\frac{\|J_i\|^4}"
        r"{p_i}-\|\Theta\|_F^2\Big)=\frac{(\mathrm{Tr}\,\Theta)^2-\|\Theta\|_F^2}{s}"
        r"+\frac{(\mathrm{Tr}\,\Theta)^2}{s}\chi^2(p^*\|p),\qquad p_i^*\propto\|J_i\|^2"
    ),
    sources=(DKM, BAR),
    kind=Expectation(),
    cases=(*ALL, SMALL),
    prepare=linearise,
    hypotheses=NON_ZERO,
    trial=_sketch_moment,
    draw=_draw_two,
    outcomes=_enumerate_two,
    mutants=("p ∝ ‖J_i‖",),
    batch=2048,
    note=(
        "Components: the error at a near-optimal law against both forms, the error at p*, and every entry of the "
        "sketched kernel in units of its deviation. J is that of the dense initial weights."
    ),
)


# --- tangent/poisson


def _poisson_laws(tangent: Tangent) -> tuple[laws.Poisson, laws.Poisson]:
    """Rates in step with ‖J_i‖², and one rate for all weights."""
    return laws.Poisson(tangent.rates), laws.Poisson(jnp.full_like(tangent.sizes, tangent.network.density))


def _draw_poisson(tangent: Tangent, key: Key) -> tuple[Array, Array]:
    one, other = jax.random.split(key)
    informed, uniform = _poisson_laws(tangent)
    return informed.sample(one), uniform.sample(other)


def _enumerate_poisson(tangent: Tangent) -> tuple[tuple[Array, Array], Array]:
    (informed, chances), (uniform, others) = (law.outcomes() for law in _poisson_laws(tangent))
    return (informed, uniform), jnp.stack([chances, others], axis=1)


def _poisson(tangent: Tangent, outcome: tuple[Array, Array]) -> dict[str, Sides]:
    theta, sizes = tangent.kernel, tangent.sizes
    measured = jnp.stack([squared(masked_kernel(tangent, mask) - theta) for mask in outcome])
    rates = jnp.stack([law.rates for law in _poisson_laws(tangent)])
    right = Sides(measured, jnp.stack([law.error(tangent.items) for law in _poisson_laws(tangent)]))
    multinomial = jnp.sum(sizes**2 / rates, axis=1) - squared(theta) / jnp.sum(rates, axis=1)
    return {"claim": right, "multinomial formula": right._replace(theory=multinomial)}


POISSON = Claim(
    id="tangent/poisson",
    title="The expected error of independent pruning on the tangent kernel",
    statement=r"\mathbb{E}\,\|\hat\Theta-\Theta\|_F^2=\sum_i\Big(\frac1{\pi_i}-1\Big)\|J_i\|^4",
    sources=(BAR,),
    kind=Expectation(),
    cases=(*ALL, SMALL),
    prepare=linearise,
    hypotheses=NON_ZERO,
    trial=_poisson,
    draw=_draw_poisson,
    outcomes=_enumerate_poisson,
    mutants=("multinomial formula",),
    batch=2048,
    note="Components: rates in step with ‖J_i‖², and one rate for all weights, which is random pruning.",
)
