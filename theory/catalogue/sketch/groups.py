"""sketch/: masks that keep or prune whole groups of weights, whose items are the sums over their groups."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from sketchprune import laws, sketch
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.simplex import random_probabilities, to_simplex
from theory.catalogue.sketch.cases import BUDGET, EVALUATED, SAMPLED, SMALL, Linear, Rng, gaussian
from theory.catalogue.sketch.moments import BAR, DKM, expected_error
from theory.catalogue.squares import squared
from theory.claim import Axis, Case, Claim, Sides, along
from theory.kinds import Bound, Expectation, Identity


class Grouped(struct.PyTreeNode):
    """A linear model whose features are in groups of one size, and the parameters of laws of masks of groups.

    Attributes:
        x: [n, groups, size]; columns may be zero.
        w: [groups, size].
        tilt: [groups], probabilities that do not depend on x and w.
        beta: in (0, 1].
        budget: draws s, at least 1.
        max_budget: the largest budget that a mask is drawn with, static.
    """

    x: Any
    w: Any
    tilt: Any
    beta: Any
    budget: Any
    max_budget: int = struct.field(pytree_node=False, default=BUDGET)

    @property
    def dense(self) -> Float[Array, " n"]:
        """Xw."""
        return self.predict(jnp.ones(self.w.shape[:1], self.w.dtype))

    @property
    def sums(self) -> Float[Array, "n groups"]:
        """The vectors B_g = Σ_{i∈g} w_i x_i, in columns, for measured sides."""
        return jnp.sum(self.x * self.w, axis=2)

    @property
    def norm_sums(self) -> Float[Array, " groups"]:
        """A_g = Σ_{i∈g} a_i, the summed norms of the weights of each group."""
        return jnp.sum(self.sizes, axis=1)

    @property
    def sizes(self) -> Float[Array, "groups size"]:
        """a_i = ‖x_i‖|w_i|."""
        return jnp.sqrt(jnp.sum(self.x**2, axis=0)) * abs(self.w)

    @property
    def items(self) -> laws.Items:
        """The items of the groups, as the library makes them."""
        flat = self.x.reshape(len(self.x), -1), self.w.reshape(-1)
        return sketch.group_items(sketch.linear_items(*flat), (self.w.shape[1],))

    @property
    def optimal(self) -> Float[Array, " groups"]:
        """p*_g ∝ ‖B_g‖."""
        norms = jnp.sqrt(self.items.squares)
        return norms / jnp.sum(norms)

    @property
    def near_optimal(self) -> Float[Array, " groups"]:
        """β p* + (1−β) tilt."""
        return self.beta * self.optimal + (1 - self.beta) * self.tilt

    @property
    def multinomial(self) -> laws.Multinomial:
        """``budget`` draws of a group with the near-optimal probabilities."""
        return laws.Multinomial(self.near_optimal, self.budget, max_budget=self.max_budget)

    @property
    def binary(self) -> laws.Poisson:
        """Independent 0/1 entries, at rates in proportion to the near-optimal probabilities between 0.02 and 1."""
        expected = jnp.minimum(self.budget, self.w.shape[0] / 3)
        return laws.Poisson(jnp.clip(expected * self.near_optimal, 0.02, 1), binary=True)

    def predict(self, mask: Float[Array, " groups"]) -> Float[Array, " n"]:
        """X(m∘w), where the weights of a group have the group's entry of the mask."""
        return jnp.einsum("ngb,gb->n", self.x, mask[:, None] * self.w, precision="highest")


def _some_group(instance: Grouped) -> Bool[Array, ""]:
    return jnp.any(instance.items.squares > 0)


SOME_GROUP = {"the sum of some group is not zero": _some_group}
"""The hypothesis under which p* exists."""


def _in_groups(rng: Rng, linear: Linear, size: int) -> Grouped:
    """The linear model with groups of this many features in turn; zero columns fill up the last group."""
    groups = -(-len(linear.w) // size)
    pad = groups * size - len(linear.w)
    return Grouped(
        x=np.pad(linear.x, ((0, 0), (0, pad))).reshape(len(linear.x), groups, size),
        w=np.pad(linear.w, (0, pad), constant_values=1.0).reshape(groups, size),
        tilt=random_probabilities(rng, groups),
        beta=linear.beta,
        budget=linear.budget,
        max_budget=linear.max_budget,
    )


def _grouped(case: Case, size: int, name: str = "") -> Case:
    """The case with groups of this many features."""

    def make(rng: Rng, dataset: Dataset) -> Grouped:
        return _in_groups(rng, case.make(rng, dataset), size)

    return Case(name or case.name, make, enumerable=case.enumerable)


def _parallel(rng: Rng, dataset: Dataset) -> Grouped:
    """Items of a group that are multiples of one vector, of one sign: norms of sums are sums of norms."""
    linear = EVALUATED[0].make(rng, dataset)
    directions, lengths = gaussian(rng)[:, ::8], rng.lognormal(size=(8, 8))
    instance = _in_groups(rng, linear, 8)
    return instance.replace(x=directions[:, :, None] * lengths / instance.w)


def _keep_groups(instance: Grouped, kept: np.ndarray) -> Grouped:
    """The instance with these groups alone, and their tilt in proportion."""
    if not instance.tilt[kept].any():
        raise ValueError(f"kept is {kept}, groups without a tilt; it takes one with a tilt")
    return instance.replace(x=instance.x[:, kept], w=instance.w[kept], tilt=to_simplex(instance.tilt[kept]))


AXES = {
    "samples": along(x=0),
    "groups": Axis(lambda instance: len(instance.w), _keep_groups),
    "members": along(x=2, w=1),
}
SMALLEST = tuple(
    _grouped(case, size, f"{case.name}{kind}")
    for case in SMALL
    for size, kind in ((2, ""), (5, "-one-group"), (1, "-singletons"))
)
"""Cases whose masks are enumerated: groups of two, all features in one group, and each feature by itself."""


# --- sketch/groups


def _draw_both(instance: Grouped, key: Key) -> tuple[Array, Array]:
    first, second = jax.random.split(key)
    return instance.multinomial.sample(first), instance.binary.sample(second)


def _enumerate_both(instance: Grouped) -> tuple[tuple[Array, Array], Array]:
    (drawn, chances), (kept, others) = instance.multinomial.outcomes(), instance.binary.outcomes()
    count = max(len(drawn), len(kept))

    def padded(values: Array) -> Array:
        return jnp.pad(values, ((0, count - len(values)), *((0, 0),) * (values.ndim - 1)))

    return (padded(drawn), padded(kept)), jnp.stack([padded(chances), padded(others)], axis=1)


def _moments(instance: Grouped, outcome: tuple[Array, Array]) -> dict[str, Sides]:
    p, s, dense = instance.near_optimal, instance.budget, squared(instance.dense)
    measured = jnp.stack([squared(instance.predict(mask) - instance.dense) for mask in outcome])
    theory = jnp.stack([law.error(instance.items) for law in (instance.multinomial, instance.binary)])
    squares, rates = instance.items.squares, instance.binary.rates
    most = jnp.max(jnp.sum((instance.sums / p - instance.dense[:, None]) ** 2, axis=0))
    bounded = most if instance.max_budget <= BUDGET else jnp.nan
    right = Sides(
        measured,
        theory,
        # Both errors may vanish where one group holds everything; rounding is relative to what they are made of.
        scale=jnp.stack([jnp.sum(squares / p) / s, jnp.sum(squares) + dense]),
        range=jnp.stack([bounded, jnp.asarray(jnp.nan)]).astype(theory.dtype),
    )

    def wrong(multinomial: Array | None = None, binary: Array | None = None) -> Sides:
        changed = [theory[i] if side is None else side for i, side in enumerate((multinomial, binary))]
        return right._replace(theory=jnp.stack(changed))

    return {
        "claim": right,
        "Σ‖w_ix_i‖ for ‖Σw_ix_i‖": wrong((jnp.sum(instance.norm_sums**2 / p) - dense) / s),
        "Σ‖w_ix_i‖² for ‖Σw_ix_i‖²": wrong((jnp.sum(jnp.sum(instance.sizes**2, axis=1) / p) - dense) / s),
        "‖B_g‖ without the square": wrong((jnp.sum(jnp.sqrt(squares) / p) - dense) / s),
        "without −‖Xw‖²": wrong(jnp.sum(squares / p) / s),
        "variance only": wrong(binary=jnp.sum(rates * (1 - rates) * squares)),
    }


GROUPS = Claim(
    id="sketch/groups",
    title="The expected error of a mask that keeps whole groups",
    statement=(
        r"\mathbb{E}\,\|X(m\circ w)-Xw\|^2=\frac1s\Big(\sum_g\frac{\|B_g\|^2}{p_g}-\|Xw\|^2\Big),\qquad"
        r"\mathbb{E}\,\|X(b\circ w)-Xw\|^2=\left\|\sum_g(1-\pi_g)B_g\right\|^2+\sum_g\pi_g(1-\pi_g)\|B_g\|^2,\qquad "
        r"B_g=\sum_{i\in g}w_ix_i"
    ),
    sources=(DKM, BAR),
    kind=Expectation(),
    cases=(*(_grouped(case, 8) for case in SAMPLED), *SMALLEST),
    trial=_moments,
    hypotheses=SOME_GROUP,
    draw=_draw_both,
    outcomes=_enumerate_both,
    mutants=(
        "Σ‖w_ix_i‖ for ‖Σw_ix_i‖", "Σ‖w_ix_i‖² for ‖Σw_ix_i‖²", "‖B_g‖ without the square", "without −‖Xw‖²",
        "variance only",
    ),
    axes=AXES,
    note=(
        "A group is kept or pruned as a whole, so that a mask weighs the sums over groups. Components: s draws of a "
        "group, reweighted; and groups that are kept independently, with 0/1 entries. Groups of one weight are the "
        "unstructured claims; with one group the first error is 0."
    ),
)  # fmt: skip


# --- sketch/group-probabilities


def _probabilities(instance: Grouped, _: Key) -> dict[str, Sides]:
    sums, s = instance.sums, instance.budget
    ones = jnp.ones(sums.shape[1], sums.dtype)
    best, summed = instance.optimal, instance.norm_sums / jnp.sum(instance.norm_sums)
    total = jnp.sum(jnp.sqrt(instance.items.squares)) ** 2 / s

    def at(law: Float[Array, " groups"]) -> Float[Array, ""]:
        return expected_error(sums, ones, law, s) / total

    # KKT at p*: the derivative is one constant, the multiplier, where p* > 0, and no smaller elsewhere.
    slope = jax.grad(at)(best)
    above = slope - best @ slope
    stationary = jnp.where(best > 0, above, jnp.minimum(above, 0))

    def sides(law: Float[Array, " groups"]) -> Sides:
        """What a random law and the one by summed norms cost beyond ``law``, and what that is if it is optimal."""
        others = instance.near_optimal, summed
        measured = jnp.concatenate([stationary, jnp.stack([at(other) - at(law) for other in others])])
        excess = jnp.stack([sketch.chi_square(law, other) for other in others])
        theory = jnp.concatenate([jnp.zeros_like(stationary), excess])
        return Sides(measured, theory, scale=jnp.ones_like(measured) * (1 + theory))

    return {"claim": sides(best), "p ∝ Σ‖w_ix_i‖": sides(summed), "p ∝ ‖B_g‖²": sides(best**2 / jnp.sum(best**2))}


GROUP_PROBABILITIES = Claim(
    id="sketch/group-probabilities",
    title="Drawing groups in proportion to the norms of their sums has the least expected error",
    statement=(
        r"\mathbb{E}_p-\mathbb{E}_{p^*}=\frac{Z^2}{s}\,\chi^2(p^*\|p),\qquad "
        r"p^*_g=\frac{\|B_g\|}{Z},\qquad Z=\sum_g\|B_g\|,\qquad B_g=\sum_{i\in g}w_ix_i"
    ),
    sources=(DKM, BAR),
    kind=Identity(),
    cases=tuple(_grouped(case, 8) for case in EVALUATED),
    trial=_probabilities,
    hypotheses=SOME_GROUP,
    mutants=("p ∝ Σ‖w_ix_i‖", "p ∝ ‖B_g‖²"),
    axes=AXES,
    note=(
        "Components: the stationarity of p* on every group (KKT conditions), then the excess error at a random law, "
        "and at the one that adds up the norms of single weights, which is optimal only where the items of each group "
        "are parallel, or all groups lose the same part."
    ),
)


# --- sketch/group-sums


def _summed(instance: Grouped, _: Key) -> dict[str, Sides]:
    sums, s, dense = instance.sums, instance.budget, squared(instance.dense)
    summed = instance.norm_sums / jnp.sum(instance.norm_sums)
    measured = expected_error(sums, jnp.ones(sums.shape[1], sums.dtype), summed, s)
    right = Sides(measured, (jnp.sum(instance.norm_sums) ** 2 - dense) / s, trivial=dense)
    least = (jnp.sum(jnp.sqrt(instance.items.squares)) ** 2 - dense) / s
    return {"claim": right, "Σ‖B_g‖ for Z": right._replace(theory=least)}


GROUP_SUMS = Claim(
    id="sketch/group-sums",
    title="Groups drawn by the summed norms of their weights err at most as the best single weights, draw for draw",
    statement=(
        r"p_g=\frac1Z\sum_{i\in g}a_i\;\Rightarrow\;\mathbb{E}\,\|X(m\circ w)-Xw\|^2"
        r"\le\frac1s\big(Z^2-\|Xw\|^2\big),\qquad Z=\sum_i a_i"
    ),
    sources=(BAR,),
    kind=Bound(search=("x", "w")),
    cases=(*(_grouped(case, 8) for case in EVALUATED), Case("parallel", _parallel)),
    trial=_summed,
    hypotheses=SOME_GROUP,
    mutants=("Σ‖B_g‖ for Z",),
    axes=AXES,
    note=(
        "The right side is the least expected error of s single weights. A draw keeps a whole group here, so that this "
        "compares equal numbers of draws, not of weights. Equality where the items of each group are parallel."
    ),
)

GROUP_CLAIMS = (GROUPS, GROUP_PROBABILITIES, GROUP_SUMS)
