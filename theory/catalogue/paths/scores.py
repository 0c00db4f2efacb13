"""paths/: pruning scores as sums over paths: what they conserve, and what pruning by them cannot cut."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from sketchprune import paths, scores, train
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.paths.cases import ALL, DENSE, Net, Rng, complete, listed, logistic, path_features, pixels, scored
from theory.catalogue.paths.kernel import GEBHART
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Bound, Identity

TANAKA = Source("tanaka2020synflow", "stated")
LEE = Source("lee2019snip", "stated")
WANG = Source("wang2020grasp", "stated")


# --- paths/conservation


def _conservation(net: Net, _: Key) -> dict[str, Sides]:
    found = listed(net)

    def sides(flows: list[Array]) -> Sides:
        """Weights against their paths, layers against R_q, and what goes into a unit less what leaves it."""
        measured, theory, scale = [], [], []
        for q, flow in zip((1, 2), flows, strict=True):
            through = abs(found.values) ** q * net.mean_power(q)[found.starts]
            total = jnp.sum(through)
            units = ((net.into - net.out_of) @ flow).ravel()
            measured += [flow, net.layer @ flow, units]
            theory += [through @ found.uses, total + jnp.zeros(net.depth), 0 * units]
            scale.append(jnp.full(flow.size + net.depth + units.size, total))
        return Sides(*map(jnp.concatenate, (measured, theory, scale)))

    flows = [scored(net, score, inputs="data") for score in (scores.synflow, scores.synflow_l2)]
    return {"claim": sides(flows), "SNIP": sides([scored(net, scores.snip)] * 2)}


CONSERVATION = Claim(
    id="paths/conservation",
    title="SynFlow is conserved: every layer sums to the path norm, every unit passes on what it gets",
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
    note="A convolution's unit is a channel. Input: the mean of |x|^q. Components for q = 1, then for q = 2.",
)


# --- paths/conservation-variants


def _variants(net: Net, _: Key) -> dict[str, Sides]:
    found, size = listed(net), abs(net.theta)
    first = size * (abs(found.values) @ found.uses)
    second = jnp.where(net.kept > 0, (found.values**2 @ found.uses) / size, 0)
    layers = jnp.stack([net.layer @ first, net.layer @ second])
    nearer = layers[jnp.argmin(jnp.max(abs(layers[:, 1:] / layers[:, :1] - 1), axis=1))]
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
    expected="REFUTED",
    batch=128,
    note=(
        "False, both of them: only the sums over paths themselves are (paths/conservation). Against the sum of the "
        "first layer, that of the two forms which comes nearer to it on each instance."
    ),
)


# --- paths/saliency-balance


def _saliency_balance(net: Net, _: Key) -> dict[str, Sides]:
    def loss(theta: Array) -> Array:
        return logistic(net.apply_as_is(theta, net.x), net.y)

    gradient = jax.grad(loss)(net.pruned) * net.kept
    outputs = net.apply_as_is(net.pruned, net.x)
    along = jnp.sum(outputs * jax.grad(logistic)(outputs, net.y))
    steepness = jnp.linalg.norm(gradient)
    step = jnp.linalg.norm(net.pruned) / jnp.where(steepness > 0, steepness, 1)

    def scaled_loss(outputs: Array, targets: Array) -> Array:
        return step * logistic(outputs, targets)

    trained, _ = train.fit(net.apply_as_is, scaled_loss, net.theta, (net.x, net.y), optax.sgd(1.0), 1, mask=net.kept)
    through = net.into - net.out_of
    moved = through @ trained**2 - through @ net.pruned**2
    size = jnp.linalg.norm(net.pruned) * steepness
    scale = jnp.concatenate([jnp.full(net.depth + moved.size, size), jnp.full(moved.size, jnp.sum(net.pruned**2))])

    def sides(saliency: Array, order: float) -> Sides:
        units = (through @ saliency).ravel()
        change = order * step**2 * (through @ gradient**2).ravel()
        measured = jnp.concatenate([net.layer @ saliency, units, moved.ravel()])
        return Sides(measured, jnp.concatenate([along + jnp.zeros(net.depth), 0 * units, change]), scale=scale)

    saliency = net.pruned * gradient
    return {
        "claim": sides(saliency, 1.0),
        "absolute values": sides(abs(saliency), 1.0),
        "without η²": sides(saliency, 0.0),
    }


def _deep_linear(rng: Rng, dataset: Dataset) -> Net:
    return complete(rng, lambda: pixels(rng, dataset), density=0.8, linear=True)


SALIENCY_BALANCE = Claim(
    id="paths/saliency-balance",
    title="Signed saliency is conserved, so training keeps layers balanced to second order in the step",
    statement=(
        r"\sum_{i\in l}\theta_i\partial_iL=\sum f\,\partial L/\partial f,\quad\sum_{i\to u}\theta_i\partial_iL="
        r"\sum_{u\to i}\theta_i\partial_iL,\quad"
        r"\Delta(\|w_{in}\|^2-\|w_{out}\|^2)=\eta^2(\|g_{in}\|^2-\|g_{out}\|^2)"
    ),
    sources=(TANAKA, GEBHART),
    kind=Identity(),
    cases=(*ALL, Case("linear-{data}", _deep_linear)),
    trial=_saliency_balance,
    mutants=("absolute values", "without η²"),
    batch=128,
    note="The step is one of optax on the kept weights, as long as they are. w_in, w_out: what a hidden unit has kept.",
)


# --- paths/score-forms


def _score_forms(net: Net, _: Key) -> dict[str, Sides]:
    found = listed(net)
    along = path_features(net, found)
    targets = net.y.ravel()

    def slopes(theta: Array) -> Array:
        """∂L/∂f as a function of the weights, the gates as they are."""
        return jax.grad(logistic)(along @ listed(net, theta).values, targets)

    def energy(theta: Array) -> Array:
        """½ (∂L/∂f) Θ (∂L/∂f)ᵀ."""
        return jnp.sum((slopes(theta) @ along @ listed(net, theta).jacobian) ** 2) / 2

    through = (slopes(net.theta) @ along) * found.values
    grasp = net.pruned * jax.grad(energy)(net.theta)
    measured = jnp.concatenate([scored(net, scores.snip), scored(net, scores.grasp)])

    def sides(snip: Array, grasp: Array) -> Sides:
        scale = jnp.concatenate([0 * part + jnp.max(abs(part)) for part in (snip, grasp)])
        return Sides(measured, jnp.concatenate([snip, grasp]), scale=scale)

    snip = abs(through @ found.uses)
    return {
        "claim": sides(snip, grasp),
        "missing ½": sides(snip, 2 * grasp),
        "absolute values inside": sides(abs(through) @ found.uses, grasp),
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
        "The loss is logistic; ∂L/∂f is differentiated too. GraSP removes the largest −θ⊙Hg: where higher is kept its "
        "score is +θ⊙Hg. The library's scores against all paths."
    ),
)


# --- paths/critical-compression


def _collapses(net: Net, rescored: Array | None = None) -> Float[Array, ""]:
    """How often a layer is empty while weights for one path are kept, the least score removed each round.

    SynFlow is re-scored each round unless scores are given.
    """

    def remove(kept: Array, _: None) -> tuple[Array, Array]:
        masked = net.replace(kept=kept)
        flow = scored(masked, scores.synflow) if rescored is None else rescored
        gone = jnp.argmin(jnp.where(kept > 0, flow, jnp.inf))
        kept = jnp.where(jnp.sum(kept) > net.depth, kept.at[gone].set(0), kept)
        return kept, jnp.any(net.layer @ kept == 0)

    kept, empty = lax.scan(remove, net.kept, None, length=net.theta.size)
    live = paths.path_norm(net.apply, net.theta, net.x.shape[1:], 1, mask=kept) > 0
    return jnp.sum(empty) + jnp.where(live & (jnp.sum(kept) == net.depth), 0, 1)


def _critical_compression(net: Net, _: Key) -> dict[str, Sides]:
    def sides(collapses: Array) -> Sides:
        return Sides(1.0 + collapses, jnp.ones_like(1.0 + collapses))

    return {
        "claim": sides(_collapses(net)),
        "SynFlow in one shot": sides(_collapses(net, scored(net, scores.synflow))),
        "magnitude in one shot": sides(_collapses(net, scored(net, scores.magnitude))),
        "SNIP in one shot": sides(_collapses(net, scored(net, scores.snip))),
    }


def _ones(rng: Rng, dataset: Dataset) -> Net:
    """All weights one: in one shot the first layer, which has most weights, goes first."""
    size = sum(index.size for index in DENSE.indices)
    return complete(rng, lambda: pixels(rng, dataset), theta=np.ones(size))


CRITICAL_COMPRESSION = Claim(
    id="paths/critical-compression",
    title="Pruning by SynFlow, one weight at a time, empties no layer before one path is left",
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
        "Both sides count from one: one more for each round in which a layer is empty, and for an end that is no live "
        "path. A layer with two live weights has one that scores at most R/2, a sole one scores R."
    ),
)
