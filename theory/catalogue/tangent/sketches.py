"""tangent/: a random mask sketches the tangent kernel, and the expected error of that sketch is known exactly."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

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
    """The sketched kernel Θ̂ = J diag(m) Jᵀ = Σ m_i J_iJ_iᵀ."""
    return jnp.matmul(tangent.jacobian * mask, tangent.jacobian.T)


def spectral_norm(symmetric: Float[Array, "N N"]) -> Float[Array, ""]:
    """The largest eigenvalue in absolute value."""
    return jnp.max(abs(jnp.linalg.eigvalsh(symmetric)))


# --- tangent/sketch-moment


def _near_and_optimal(tangent: Tangent) -> tuple[laws.Multinomial, laws.Multinomial]:
    """The near-optimal law and the optimal one."""
    return tangent.multinomial(tangent.near_optimal), tangent.multinomial(tangent.optimal)


def _draw_two(tangent: Tangent, key: Key) -> tuple[Array, Array]:
    near_key, optimal_key = jax.random.split(key)
    near, optimal = _near_and_optimal(tangent)
    return near.sample(near_key), optimal.sample(optimal_key)


def _enumerate_two(tangent: Tangent) -> tuple[tuple[Array, Array], Array]:
    """All masks of both laws, and for each component of the claim the probability of the mask that it looks at."""
    (near, near_chances), (optimal, optimal_chances) = (law.outcomes() for law in _near_and_optimal(tangent))
    errors = jnp.stack([near_chances, near_chances, optimal_chances], axis=1)
    entries = jnp.repeat(near_chances[:, None], tangent.outputs.size**2, axis=1)
    return (near, optimal), jnp.concatenate([errors, entries], axis=1)


def _largest_error(tangent: Tangent, law: Float[Array, " P"], theta: Array) -> Float[Array, ""]:
    """The largest ‖Θ̂−Θ‖²_F over all masks. It is convex in the counts, so all draws hit one weight."""
    weight = jnp.where(law > 0, 1 / jnp.where(law > 0, law, 1), 0)
    along = jnp.sum(tangent.jacobian * (theta @ tangent.jacobian), axis=0)
    return jnp.max((weight * tangent.sizes) ** 2 - 2 * weight * along) + squared(theta)


def _sketch_moment(tangent: Tangent, outcome: tuple[Array, Array]) -> dict[str, Sides]:
    near_mask, optimal_mask = outcome
    theta = tangent.kernel
    trace = jnp.sum(tangent.sizes)
    near, optimal = (law.error(tangent.items) for law in _near_and_optimal(tangent))
    sketched = masked_kernel(tangent, near_mask)
    near_error = squared(sketched - theta)
    optimal_error = squared(masked_kernel(tangent, optimal_mask) - theta)
    measured = jnp.concatenate([jnp.stack([near_error, near_error, optimal_error]), sketched.ravel()])
    near_range = _largest_error(tangent, tangent.near_optimal, theta)
    optimal_range = _largest_error(tangent, tangent.optimal, theta)
    heaviest = jnp.max(tangent.sizes / tangent.near_optimal)
    each_entry = jnp.zeros_like(theta.ravel())

    def sides(supposed: Float[Array, " P"]) -> Sides:
        """The sides when ``supposed`` is taken for the optimal law: beyond it p costs (TrΘ)²χ²(supposed‖p)/s."""
        excess = trace**2 * sketch.chi_square(supposed, tangent.near_optimal) / tangent.network.budget
        return Sides(
            measured,
            jnp.concatenate([jnp.stack([near, optimal + excess, optimal]), theta.ravel()]),
            scale=jnp.concatenate([jnp.stack([near, near, optimal]), each_entry + jnp.sqrt(near)]),
            range=jnp.concatenate([jnp.stack([near_range, near_range, optimal_range]), each_entry + 2 * heaviest]),
        )

    by_length = jnp.sqrt(tangent.sizes)
    return {"claim": sides(tangent.optimal), "p ∝ ‖J_i‖": sides(by_length / jnp.sum(by_length))}


def _has_error(tangent: Tangent) -> Bool[Array, ""]:
    """Whether masks differ in their error: at p* they do not where all columns of J are parallel."""
    return jnp.sum(tangent.sizes) ** 2 - squared(tangent.kernel) > 1e-3 * jnp.sum(tangent.sizes) ** 2


SKETCH_MOMENT = Claim(
    id="tangent/sketch-moment",
    title="The expected error of a multinomial mask on the tangent kernel, and the law that minimises it",
    statement=(
        r"\mathbb{E}\,\hat\Theta=\Theta,\quad\mathbb{E}\,\|\hat\Theta-\Theta\|_F^2=\frac1s\Big(\sum_i\frac{\|J_i\|^4}"
        r"{p_i}-\|\Theta\|_F^2\Big)=\frac{(\mathrm{Tr}\,\Theta)^2-\|\Theta\|_F^2}{s}"
        r"+\frac{(\mathrm{Tr}\,\Theta)^2}{s}\chi^2(p^*\|p),\qquad p_i^*\propto\|J_i\|^2"
    ),
    sources=(DKM, BAR),
    kind=Expectation(),
    cases=(*ALL, SMALL),
    prepare=linearise,
    hypotheses=NON_ZERO | {"the least expected error is above rounding, 10⁻³ (Tr Θ)²/s": _has_error},
    trial=_sketch_moment,
    draw=_draw_two,
    outcomes=_enumerate_two,
    mutants=("p ∝ ‖J_i‖",),
    batch=2048,
    note=(
        "Components: the error at a near-optimal law, compared with both forms; the error at p*; and every entry of "
        "the sketched kernel, in units of the root of the expected error. J is that of the dense initial weights."
    ),
)


# --- tangent/poisson


def _poisson_laws(tangent: Tangent) -> tuple[laws.Poisson, laws.Poisson]:
    """Rates that grow with ‖J_i‖², and one rate for all weights."""
    return laws.Poisson(tangent.rates), laws.Poisson(jnp.full_like(tangent.sizes, tangent.network.density))


def _draw_poisson(tangent: Tangent, key: Key) -> tuple[Array, Array]:
    informed_key, uniform_key = jax.random.split(key)
    informed, uniform = _poisson_laws(tangent)
    return informed.sample(informed_key), uniform.sample(uniform_key)


def _enumerate_poisson(tangent: Tangent) -> tuple[tuple[Array, Array], Array]:
    (informed, informed_chances), (uniform, uniform_chances) = (law.outcomes() for law in _poisson_laws(tangent))
    return (informed, uniform), jnp.stack([informed_chances, uniform_chances], axis=1)


def _poisson(tangent: Tangent, outcome: tuple[Array, Array]) -> dict[str, Sides]:
    theta = tangent.kernel
    sizes = tangent.sizes
    measured = jnp.stack([squared(masked_kernel(tangent, mask) - theta) for mask in outcome])
    rates = jnp.stack([law.rates for law in _poisson_laws(tangent)])
    right = Sides(measured, jnp.stack([law.error(tangent.items) for law in _poisson_laws(tangent)]))
    multinomial = jnp.sum(sizes**2 / rates, axis=1) - squared(theta) / jnp.sum(rates, axis=1)
    return {"claim": right, "multinomial formula": right._replace(theory=multinomial)}


def _above_rounding(tangent: Tangent) -> Bool[Array, ""]:
    """Whether what masks change is above rounding: Θ̂ − Θ is measured as a difference of numbers as large as Θ."""

    def of(rates: Float[Array, " P"]) -> Bool[Array, ""]:
        changed = jnp.where(rates < 1, tangent.sizes, 0)
        near_one = jnp.any((rates > 1 - 1e-6) & (changed > 0))
        largest = jnp.max(changed)
        return ~near_one & ((largest == 0) | (largest > 1e-3 * jnp.sum(tangent.sizes)))

    return jnp.all(jnp.stack([of(law.rates) for law in _poisson_laws(tangent)]))


POISSON = Claim(
    id="tangent/poisson",
    title="The expected error of independent pruning on the tangent kernel",
    statement=r"\mathbb{E}\,\|\hat\Theta-\Theta\|_F^2=\sum_i\Big(\frac1{\pi_i}-1\Big)\|J_i\|^4",
    sources=(BAR,),
    kind=Expectation(),
    cases=(*ALL, SMALL),
    prepare=linearise,
    hypotheses=NON_ZERO
    | {"rates are 1 or at most 1 − 10⁻⁶, and a column of at least 10⁻³ Tr Θ may go": _above_rounding},
    trial=_poisson,
    draw=_draw_poisson,
    outcomes=_enumerate_poisson,
    mutants=("multinomial formula",),
    batch=2048,
    note="Components: rates that grow with ‖J_i‖², and one rate for all weights, which is random pruning.",
)
