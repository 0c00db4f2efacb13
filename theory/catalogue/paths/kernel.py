"""paths/: the path kernel Π = J Jᵀ with J = ∂v/∂θ: its trace, Gram matrix, largest eigenvalue and rank."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import paths, scores
from sketchprune.types import Key
from theory.catalogue.paths.cases import ALL
from theory.catalogue.paths.listing import list_paths
from theory.catalogue.paths.networks import Net, scored
from theory.claim import Claim, Sides, Source
from theory.kinds import Bound, Identity

GEBHART = Source("gebhart2021paths")


# --- paths/trace


def _trace(net: Net, _: Key) -> dict[str, Sides]:
    u = net.mean_power(2)
    shape = net.x.shape[1:]
    measured = jnp.sum(list_paths(net).weighted_jacobian(u) ** 2)
    right = Sides(measured, paths.trace(net.apply, net.theta, shape, u=u, mask=net.kept))

    def with_plain_pooling(squares: Array) -> Array:
        """The linear network at squared weights, with pooling coefficients that are not squared."""
        return jnp.sum(net.apply(squares, u[None]))

    def first_norm(size: Array) -> Array:
        return paths.path_norm(net.apply, size, shape, 1, u=u)

    return {
        "claim": right,
        "|θ| for θ²": right._replace(theory=jnp.sum(net.kept * jax.grad(first_norm)(abs(net.masked) + 1e-30))),
        "R₂ itself": right._replace(theory=paths.path_norm(net.apply, net.theta, shape, 2, u=u, mask=net.kept)),
        "pooling not squared": right._replace(theory=jnp.sum(net.kept * jax.grad(with_plain_pooling)(net.masked**2))),
    }


TRACE = Claim(
    id="paths/trace",
    title="The trace of the path kernel takes one forward and one backward pass",
    statement=(
        r"\mathrm{Tr}\,\Pi=\sum_{i\;\mathrm{kept}}\frac{\partial R_2}{\partial(\theta_i^2)},\quad"
        r"\;R_2(\theta;u)=\sum_pv_p^2\,u_p"
    ),
    sources=(GEBHART,),
    kind=Identity(),
    cases=ALL,
    trial=_trace,
    mutants=("|θ| for θ²", "R₂ itself", "pooling not squared"),
    batch=128,
    note=(
        "u is the mean of x². Weights and pooling coefficients are squared. The left side is the sum over a list of "
        "all paths."
    ),
)


# --- paths/gram


def _gram(net: Net, _: Key) -> dict[str, Sides]:
    u = net.mean_power(2)
    size = net.theta.size
    arguments, options = (net.apply, net.theta, net.x.shape[1:]), {"u": u, "mask": net.kept}
    jacobian = list_paths(net).weighted_jacobian(u)
    expected = jacobian.T @ jacobian
    spectrum = jnp.linalg.eigvalsh(jacobian @ jacobian.T)[-size:]
    gram = jax.vmap(lambda e: paths.gram_product(*arguments, e, **options))(jnp.eye(size))
    top = paths.spectrum(*arguments, num_products=24, **options)
    measured = jnp.concatenate([expected.ravel(), spectrum, spectrum[-1:]])
    scale = jnp.trace(expected)
    values = jnp.linalg.eigvalsh((gram + gram.T) / 2)

    def sides(gram: Array) -> Sides:
        return Sides(measured, jnp.concatenate([gram.ravel(), values, top]), scale=scale)

    non_zero = jnp.where(net.masked == 0, 1, net.masked)
    diagonal = jnp.diag(jnp.diag(gram))
    unweighted = (gram - diagonal) / (non_zero[:, None] * non_zero) + diagonal
    return {"claim": sides(gram), "off-diagonal without θᵢθⱼ": sides(unweighted)}


GRAM = Claim(
    id="paths/gram",
    title="The path kernel has the spectrum of a Gram matrix, whose products are Hessian-vector products",
    statement=(
        r"G=(J_\theta^v)^\top J_\theta^v,\quad G_{ii}=\frac{\partial R_2}{\partial(\theta_i^2)},\quad G_{ij}="
        r"\theta_i\theta_j\frac{\partial^2R_2}{\partial(\theta_i^2)\,\partial(\theta_j^2)},\quad"
        r"\lambda_{>0}(G)=\lambda_{>0}(\Pi)"
    ),
    sources=(GEBHART,),
    kind=Identity(),
    cases=ALL,
    trial=_gram,
    mutants=("off-diagonal without θᵢθⱼ",),
    batch=64,
    note=(
        "Components: every entry of G, every eigenvalue of Π against those of G, and the largest eigenvalue by Lanczos "
        "iteration."
    ),
)


# --- paths/lambda-max-sandwich


def _sandwich(net: Net, _: Key) -> dict[str, Sides]:
    u = net.mean_power(2)
    jacobian = list_paths(net).weighted_jacobian(u)
    top = jnp.linalg.eigvalsh(jacobian.T @ jacobian)[-1]
    diagonal = scored(net, scores.path_trace, inputs="data")
    most = jnp.max(diagonal)
    by_layer = jnp.sum(jnp.max(net.in_layer * diagonal, axis=1))
    norm = paths.path_norm(net.apply, net.theta, net.x.shape[1:], 2, u=u, mask=net.kept)
    rayleigh = net.depth**2 * norm / jnp.sum(net.masked**2)

    def sides(upper: Array) -> Sides:
        measured = jnp.stack([most, rayleigh, top, by_layer])
        return Sides(measured, jnp.stack([top, top, upper, net.depth * most]))

    return {"claim": sides(by_layer), "largest layer alone": sides(most)}


LAMBDA_MAX_SANDWICH = Claim(
    id="paths/lambda-max-sandwich",
    title="One gradient brackets the largest eigenvalue of the path kernel",
    statement=(
        r"\max_iG_{ii}\le\lambda_1(\Pi)\le\sum_l\max_{i\in l}G_{ii}\le L\max_iG_{ii},\qquad"
        r"\lambda_1(\Pi)\ge\frac{L^2R_2}{\|\theta\|^2}"
    ),
    sources=(GEBHART,),
    kind=Bound(),
    cases=ALL,
    trial=_sandwich,
    mutants=("largest layer alone",),
    batch=128,
    note=(
        "Columns of the same layer are orthogonal, because a path has one weight in each layer. Components: the two "
        "lower bounds, then the two upper bounds. The eigenvalue is found from a list of all paths."
    ),
)


# --- paths/rank


def _live_weights(net: Net, u: Float[Array, " d"]) -> Float[Array, " P"]:
    """1 where a weight lies on a path of kept weights from an input with u > 0."""
    edges = [(c != 0) & (net.kept > 0)[index] for c, index in zip(net.coefficients, net.indices, strict=True)]
    reached = [u > 0]
    for edge in edges:
        reached.append(jnp.any(reached[-1][:, None] & edge, axis=0))
    reaching = [jnp.ones(net.widths[-1], bool)]
    for edge in edges[::-1]:
        reaching.append(jnp.any(edge & reaching[-1], axis=1))
    reaching = reaching[::-1]
    live = jnp.zeros(net.theta.size)
    for at, (edge, index) in enumerate(zip(edges, net.indices, strict=True)):
        used = reached[at][:, None] & edge & reaching[at + 1]
        live = live.at[index].max(used.astype(live.dtype))
    return live


def _rank(net: Net, _: Key) -> dict[str, Sides]:
    u = net.mean_power(2)
    values = jnp.linalg.svd(list_paths(net).weighted_jacobian(u), compute_uv=False)
    measured = jnp.sum(values > 64 * jnp.finfo(values.dtype).eps * values[0]).astype(values.dtype)
    live = _live_weights(net, u)
    channels = jnp.sum(jnp.any(net.into_unit * live > 0, axis=2))
    right = Sides(measured, (jnp.sum(live) - channels).astype(values.dtype))
    return {"claim": right, "nothing subtracted": right._replace(theory=jnp.sum(live).astype(values.dtype))}


RANK = Claim(
    id="paths/rank",
    title="The rank of the path kernel is the number of live weights minus the number of live hidden units",
    statement=(
        r"\mathrm{rank}\,\Pi=\#\{\text{kept weights on live paths}\}-\#\{\text{live hidden units or channels}\}"
    ),
    sources=(GEBHART,),
    kind=Identity(),
    cases=ALL,
    trial=_rank,
    mutants=("nothing subtracted",),
    batch=128,
    note=(
        "Kept weights are not zero. A path is live when all of its weights are kept and its input has u > 0. To fit "
        "any labels in the linearised regime, the number of live weights must therefore exceed that of live hidden "
        "units by at least the number of labels."
    ),
)


# --- paths/trace-drop


def _trace_drop(net: Net, _: Key) -> dict[str, Sides]:
    u = net.mean_power(2)

    def trace(kept: Array) -> Array:
        return jnp.sum(list_paths(net, kept=kept).weighted_jacobian(u) ** 2)

    whole = trace(net.kept)
    removed = whole - jax.vmap(lambda gone: trace(net.kept * (1 - gone)))(jnp.eye(net.theta.size))

    def sides(drop: Array) -> Sides:
        units = (net.into_unit - net.out_of_unit) @ drop
        measured = jnp.concatenate([removed, net.in_layer @ drop, units.ravel()])
        theory = jnp.concatenate([drop, whole + jnp.zeros(net.depth), jnp.zeros(units.size)])
        return Sides(measured, theory, scale=whole)

    return {
        "claim": sides(scored(net, scores.trace_drop, inputs="data")),
        "first term only": sides(scored(net, scores.path_trace, inputs="data")),
    }


TRACE_DROP = Claim(
    id="paths/trace-drop",
    title="Exactly by how much removing a weight lowers the trace of the path kernel",
    statement=(
        r"\mathrm{Tr}\,\Pi-\mathrm{Tr}\,\Pi_{\setminus i}=D_i=\frac{\partial R_2}{\partial(\theta_i^2)}"
        r"+\theta_i^2\frac{\partial\,\mathrm{Tr}\,\Pi}{\partial(\theta_i^2)},\qquad\sum_{i\in l}D_i=\mathrm{Tr}\,\Pi"
    ),
    sources=(GEBHART,),
    kind=Identity(),
    cases=ALL,
    trial=_trace_drop,
    mutants=("first term only",),
    batch=32,
    note=(
        "Components: the removal of each weight; the sums over layers; and for each hidden unit the sum over the "
        "weights that lead into it, minus the sum over those that lead out of it."
    ),
)
