"""paths/: pruning scores as sums over paths: what they conserve, and why pruning by them leaves no layer empty."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Int

from sketchprune import paths, scores, train
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.paths.cases import ALL, LINEAR, Rng, draw_network, pixels
from theory.catalogue.paths.cuts import AXES
from theory.catalogue.paths.kernel import GEBHART
from theory.catalogue.paths.listing import list_paths, path_features
from theory.catalogue.paths.networks import DENSE, Net, logistic, scored
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Bound, Identity

TANAKA = Source("tanaka2020synflow", "stated")
LEE = Source("lee2019snip", "stated")
WANG = Source("wang2020grasp", "stated")


# --- paths/conservation


def _conservation(net: Net, _: Key) -> dict[str, Sides]:
    found = list_paths(net)

    def parts(power: int, score: Array) -> tuple[Array, Array, Array]:
        """Each weight's score against its paths, each layer's sum against R_q, and each unit's balance against 0."""
        through = abs(found.values) ** power * net.mean_power(power)[found.starts]
        total = jnp.sum(through)
        units = ((net.into_unit - net.out_of_unit) @ score).ravel()
        measured = jnp.concatenate([score, net.in_layer @ score, units])
        theory = jnp.concatenate([through @ found.uses, total + jnp.zeros(net.depth), 0 * units])
        return measured, theory, jnp.full(measured.size, total)

    def sides(first: Array, second: Array) -> Sides:
        return Sides(*map(jnp.concatenate, zip(parts(1, first), parts(2, second), strict=True)))

    synflow, synflow_l2 = (scored(net, score, inputs="data") for score in (scores.synflow, scores.synflow_l2))
    snip = scored(net, scores.snip)
    return {"claim": sides(synflow, synflow_l2), "SNIP": sides(snip, snip)}


CONSERVATION = Claim(
    id="paths/conservation",
    title="SynFlow is conserved: each layer sums to the path norm, and each unit passes on as much as it receives",
    statement=(
        r"S_i=|\theta_i|\frac{\partial R_1}{\partial|\theta_i|}=\sum_{p\ni i}|v_p|,\quad S_i=\theta_i^2\frac{\partial "
        r"R_2}{\partial(\theta_i^2)}=\sum_{p\ni i}v_p^2:\qquad\sum_{i\in l}S_i=R_q,\quad"
        r"\sum_{i\to u}S_i=\sum_{u\to i}S_i"
    ),
    sources=(TANAKA, GEBHART),
    kind=Identity(),
    cases=ALL,
    trial=_conservation,
    mutants=("SNIP",),
    batch=128,
    note=(
        "In a convolution a unit is a channel. The input is the mean of |x|^q. Components: those for q = 1, then those "
        "for q = 2."
    ),
)


# --- paths/conservation-variants


def _variants(net: Net, _: Key) -> dict[str, Sides]:
    found = list_paths(net)
    size = abs(net.theta)
    first = size * (abs(found.values) @ found.uses)
    second = jnp.where(net.kept > 0, (found.values**2 @ found.uses) / size, 0)
    layers = jnp.stack([net.in_layer @ first, net.in_layer @ second])
    deviations = jnp.max(abs(layers[:, 1:] / layers[:, :1] - 1), axis=1)
    nearer = layers[jnp.argmin(deviations)]
    return {"claim": Sides(nearer[1:], nearer[:1])}


CONSERVATION_VARIANTS = Claim(
    id="paths/conservation-variants",
    title="Two other forms of SynFlow-L2 in public code are conserved too",
    statement=(
        r"\sum_{i\in l}|\theta_i|\sum_{p\ni i}|v_p|\quad\text{and}\quad\sum_{i\in l}\frac{1}{|\theta_i|}"
        r"\sum_{p\ni i}v_p^2\quad\text{are the same for every layer }l"
    ),
    sources=(Source("tanaka2020synflow", "known-false"),),
    kind=Identity(),
    cases=ALL,
    trial=_variants,
    free=("theta", "kept", "x"),
    axes=AXES,
    expected="REFUTED",
    batch=128,
    note=(
        "Both are false: only the sums over paths themselves are conserved (paths/conservation). Each layer's sum is "
        "compared with the first layer's. On each instance the form that deviates less is the one that counts."
    ),
)


# --- paths/saliency-balance


def _saliency_balance(net: Net, _: Key) -> dict[str, Sides]:
    def loss(theta: Array) -> Array:
        return logistic(net.apply_own(theta, net.x), net.y)

    gradient = jax.grad(loss)(net.masked) * net.kept
    outputs = net.apply_own(net.masked, net.x)
    along_outputs = jnp.sum(outputs * jax.grad(logistic)(outputs, net.y))
    steepness = jnp.linalg.norm(gradient)
    step = jnp.linalg.norm(net.masked) / jnp.where(steepness > 0, steepness, 1)

    def scaled_loss(outputs: Array, targets: Array) -> Array:
        """The step size is part of the loss, so that one optimiser serves all instances."""
        return step * logistic(outputs, targets)

    trained, _ = train.fit(net.apply_own, scaled_loss, net.theta, (net.x, net.y), optax.sgd(1.0), 1, mask=net.kept)
    balance = net.into_unit - net.out_of_unit
    moved = balance @ trained**2 - balance @ net.masked**2
    saliency_scale = jnp.linalg.norm(net.masked) * steepness
    moved_scale = jnp.sum(net.masked**2)
    scale = jnp.concatenate([jnp.full(net.depth + moved.size, saliency_scale), jnp.full(moved.size, moved_scale)])

    def sides(saliency: Array, order: float) -> Sides:
        units = (balance @ saliency).ravel()
        change = order * step**2 * (balance @ gradient**2).ravel()
        measured = jnp.concatenate([net.in_layer @ saliency, units, moved.ravel()])
        theory = jnp.concatenate([along_outputs + jnp.zeros(net.depth), 0 * units, change])
        return Sides(measured, theory, scale=scale)

    saliency = net.masked * gradient
    return {
        "claim": sides(saliency, 1.0),
        "absolute values": sides(abs(saliency), 1.0),
        "without η²": sides(saliency, 0.0),
    }


SALIENCY_BALANCE = Claim(
    id="paths/saliency-balance",
    title="Signed saliency is conserved, so a training step changes the balance of a unit only to second order",
    statement=(
        r"\sum_{i\in l}\theta_i\partial_iL=\sum f\,\partial L/\partial f,\quad\sum_{i\to u}\theta_i\partial_iL="
        r"\sum_{u\to i}\theta_i\partial_iL,\quad"
        r"\Delta(\|w_{in}\|^2-\|w_{out}\|^2)=\eta^2(\|g_{in}\|^2-\|g_{out}\|^2)"
    ),
    sources=(TANAKA, GEBHART),
    kind=Identity(),
    cases=(*ALL, LINEAR),
    trial=_saliency_balance,
    mutants=("absolute values", "without η²"),
    batch=128,
    note=(
        "One step of optax on the kept weights; the step is as long as the vector of weights. w_in and w_out are the "
        "kept weights that lead into a hidden unit and out of it."
    ),
)


# --- paths/score-forms


def _score_forms(net: Net, _: Key) -> dict[str, Sides]:
    found = list_paths(net)
    features = path_features(net, found)
    targets = net.y.ravel()

    def slopes(theta: Array) -> Array:
        """∂L/∂f as a function of the weights, with the gates held fixed."""
        return jax.grad(logistic)(features @ list_paths(net, theta).values, targets)

    def energy(theta: Array) -> Array:
        """½ (∂L/∂f) Θ (∂L/∂f)ᵀ."""
        return jnp.sum((slopes(theta) @ features @ list_paths(net, theta).jacobian) ** 2) / 2

    path_saliency = (slopes(net.theta) @ features) * found.values
    snip = abs(path_saliency @ found.uses)
    grasp = net.masked * jax.grad(energy)(net.theta)
    measured = jnp.concatenate([scored(net, scores.snip), scored(net, scores.grasp)])

    def sides(snip: Array, grasp: Array) -> Sides:
        scale = jnp.concatenate([0 * part + jnp.max(abs(part)) for part in (snip, grasp)])
        return Sides(measured, jnp.concatenate([snip, grasp]), scale=scale)

    return {
        "claim": sides(snip, grasp),
        "missing ½": sides(snip, 2 * grasp),
        "absolute values inside": sides(abs(path_saliency) @ found.uses, grasp),
    }


SCORE_FORMS = Claim(
    id="paths/score-forms",
    title="SNIP and GraSP as sums over paths",
    statement=(
        r"\text{SNIP}_i=\Big|\sum_{p\ni i}\frac{\partial L}{\partial v_p}v_p\Big|,\qquad\theta\odot Hg=\theta_i\cdot"
        r"\tfrac12\partial_i\Big[\frac{\partial L}{\partial f}\Theta"
        r"\Big(\frac{\partial L}{\partial f}\Big)^{\!\top}\Big]"
    ),
    sources=(LEE, WANG, GEBHART),
    kind=Identity(),
    cases=ALL,
    trial=_score_forms,
    mutants=("missing ½", "absolute values inside"),
    batch=128,
    note=(
        "The loss is logistic, and ∂L/∂f is differentiated too. GraSP removes the weights with the largest −θ⊙Hg, so "
        "its score is +θ⊙Hg where the highest scores are kept. The library's scores are compared with sums over a list "
        "of all paths."
    ),
)


# --- paths/critical-compression


def _num_collapses(net: Net, fixed_scores: Array | None = None) -> Int[Array, ""]:
    """In how many rounds a layer is empty, plus one if what is left in the end is no live path.

    Each round removes the kept weight with the least score, until there are as many weights as layers. The score is
    SynFlow, computed anew in each round, unless fixed scores are given.
    """

    def remove(kept: Array, _: None) -> tuple[Array, Array]:
        current = scored(net.replace(kept=kept), scores.synflow) if fixed_scores is None else fixed_scores
        least = jnp.argmin(jnp.where(kept > 0, current, jnp.inf))
        kept = jnp.where(jnp.sum(kept) > net.depth, kept.at[least].set(0), kept)
        return kept, jnp.any(net.in_layer @ kept == 0)

    kept, empty = lax.scan(remove, net.kept, None, length=net.theta.size)
    live = paths.path_norm(net.apply, net.theta, net.x.shape[1:], 1, mask=kept) > 0
    return jnp.sum(empty) + jnp.where(live & (jnp.sum(kept) == net.depth), 0, 1)


def _critical_compression(net: Net, _: Key) -> dict[str, Sides]:
    def sides(collapses: Array) -> Sides:
        measured = 1.0 + collapses
        return Sides(measured, jnp.ones_like(measured))

    return {
        "claim": sides(_num_collapses(net)),
        "SynFlow in one shot": sides(_num_collapses(net, scored(net, scores.synflow))),
        "magnitude in one shot": sides(_num_collapses(net, scored(net, scores.magnitude))),
        "SNIP in one shot": sides(_num_collapses(net, scored(net, scores.snip))),
    }


def _ones(rng: Rng, dataset: Dataset) -> Net:
    """All weights are one. One-shot pruning then empties the first layer, which has most weights."""
    return draw_network(rng, lambda: pixels(rng, dataset), theta=np.ones(DENSE.size))


CRITICAL_COMPRESSION = Claim(
    id="paths/critical-compression",
    title="Pruning by SynFlow one weight at a time empties no layer until a single path is left",
    statement=(
        r"S_i=\sum_{p\ni i}\omega_p,\;\omega_p>0\text{ on live paths}:\text{ remove the least, score again}"
        r"\;\Rightarrow\;\text{no layer is empty until }L\text{ weights are left}"
    ),
    sources=(TANAKA,),
    kind=Bound(),
    cases=(*ALL, Case("ones-{data}", _ones)),
    trial=_critical_compression,
    mutants=("SynFlow in one shot", "magnitude in one shot", "SNIP in one shot"),
    batch=128,
    note=(
        "The left side is 1, plus the number of rounds in which a layer is empty, plus 1 if the weights that are left "
        "in the end are no live path. The right side is 1. The reason: a layer with two or more live weights has one "
        "that scores at most R/2, while the only live weight of a layer scores R."
    ),
)
