"""paths/: the path kernel Π = J Jᵀ, J = ∂v/∂θ: its trace, its Gram matrix, its rank, and the tangent kernel."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import paths, scores
from sketchprune.types import Key
from theory.catalogue.paths.cases import ALL, MLPS, Net, features, listed, scored, weighted
from theory.claim import Claim, Sides, Source
from theory.kinds import Bound, Identity

GEBHART = Source("gebhart2021paths")


def tangent_kernel(jacobian: Float[Array, "N P"]) -> Float[Array, "N N"]:
    """Θ of the kept columns."""
    return jacobian @ jacobian.T


# --- paths/ntk-decomposition


def _ntk_decomposition(net: Net, _: Key) -> dict[str, Sides]:
    found = listed(net)

    def by_differentiation(outputs, *arguments: Array) -> Array:
        """Θ from the whole Jacobian of a function of weights (and biases)."""
        whole = jax.jacrev(outputs, argnums=tuple(range(len(arguments))))(*arguments)
        columns = [part.reshape(part.shape[0] * part.shape[1], -1) for part in whole]
        columns[0] = columns[0] * net.kept
        return tangent_kernel(jnp.concatenate(columns, axis=1))

    def by_paths(hidden: list[Array]) -> Array:
        along = features(net, found, hidden, net.x)
        return along @ found.jacobian @ found.jacobian.T @ along.T

    def sides(theta: Array, hidden: list[Array]) -> Sides:
        return Sides(theta, by_paths(hidden), scale=jnp.linalg.norm(theta))

    def network(theta: Array) -> Array:
        return net.apply(theta, net.x)

    def tanh(theta: Array) -> Array:
        return net.run(theta, net.x, phi=jnp.tanh)[0]

    def biased(theta: Array, bias: Array) -> Array:
        return net.run(theta, net.x, bias=bias)[0]

    return {
        "claim": sides(by_differentiation(network, net.pruned), net.run(net.pruned, net.x)[1]),
        "tanh": sides(by_differentiation(tanh, net.pruned), net.run(net.pruned, net.x, phi=jnp.tanh)[1]),
        "biases": sides(by_differentiation(biased, net.pruned, net.bias), net.run(net.pruned, net.x, bias=net.bias)[1]),
    }


NTK_DECOMPOSITION = Claim(
    id="paths/ntk-decomposition",
    title="The tangent kernel is the path kernel seen through the active paths",
    statement=r"\Theta(x,x')=J_v^f(x)\,\Pi\,J_v^f(x')^\top,\qquad\Pi=J_\theta^v(J_\theta^v)^\top",
    sources=(GEBHART,),
    kind=Identity(),
    cases=ALL,
    trial=_ntk_decomposition,
    mutants=("tanh", "biases"),
    batch=128,
    note=(
        "Dense, masked and convolutional networks with two outputs, on three samples; automatic differentiation "
        "against all paths. The mutants have another activation, and trainable biases."
    ),
)


# --- paths/trace


def _trace(net: Net, _: Key) -> dict[str, Sides]:
    u = net.mean_power(2)
    measured = jnp.sum(weighted(listed(net), u) ** 2)
    shape = net.x.shape[1:]
    right = Sides(measured, paths.trace(net.apply, net.theta, shape, u=u, mask=net.kept))

    def unsquared(squares: Array) -> Array:
        """The linear network at squared weights, its pooling coefficients as they were."""
        return jnp.sum(net.apply(squares, u[None]))

    def slope(size: Array) -> Array:
        return paths.path_norm(net.apply, size, shape, 1, u=u)

    return {
        "claim": right,
        "|θ| for θ²": right._replace(theory=jnp.sum(net.kept * jax.grad(slope)(abs(net.pruned) + 1e-30))),
        "R₂ itself": right._replace(theory=paths.path_norm(net.apply, net.theta, shape, 2, u=u, mask=net.kept)),
        "pooling not squared": right._replace(theory=jnp.sum(net.kept * jax.grad(unsquared)(net.pruned**2))),
    }


TRACE = Claim(
    id="paths/trace",
    title="The trace of the path kernel is one forward and one backward pass",
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
    note="u is the mean of x²; weights and pooling coefficients are squared. Against the sum over all paths.",
)


# --- paths/gram


def _gram(net: Net, _: Key) -> dict[str, Sides]:
    u, size = net.mean_power(2), net.theta.size
    shape, options = net.x.shape[1:], {"u": u, "mask": net.kept}
    jacobian = weighted(listed(net), u)
    expected = jacobian.T @ jacobian
    spectrum = jnp.linalg.eigvalsh(jacobian @ jacobian.T)[-size:]
    gram = jax.vmap(lambda e: paths.gram_product(net.apply, net.theta, shape, e, **options))(jnp.eye(size))
    top = paths.spectrum(net.apply, net.theta, shape, num_products=24, **options)
    measured = jnp.concatenate([expected.ravel(), spectrum, spectrum[-1:]])
    scale = jnp.trace(expected)

    values = jnp.linalg.eigvalsh((gram + gram.T) / 2)

    def sides(gram: Array) -> Sides:
        return Sides(measured, jnp.concatenate([gram.ravel(), values, top]), scale=scale)

    whole = jnp.where(net.pruned == 0, 1, net.pruned)
    diagonal = jnp.diag(jnp.diag(gram))
    bare = (gram - diagonal) / (whole[:, None] * whole) + diagonal
    return {"claim": sides(gram), "off-diagonal without θᵢθⱼ": sides(bare)}


GRAM = Claim(
    id="paths/gram",
    title="The path kernel's spectrum is that of a Gram matrix whose products are Hessian-vector products",
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
    note="Components: every entry of G, every eigenvalue of Π against those of G, the largest by Lanczos iteration.",
)


# --- paths/lambda-max-sandwich


def _sandwich(net: Net, key: Key) -> dict[str, Sides]:
    u = net.mean_power(2)
    shape, options = net.x.shape[1:], {"u": u, "mask": net.kept}
    jacobian = weighted(listed(net), u)
    top = jnp.linalg.eigvalsh(jacobian.T @ jacobian)[-1]
    diagonal = scored(net, scores.path_trace, inputs="data")
    most = jnp.max(diagonal)
    by_layer = jnp.sum(jnp.max(net.layer * diagonal, axis=1))
    norm = paths.path_norm(net.apply, net.theta, shape, 2, **options)
    rayleigh = net.depth**2 * norm / jnp.sum(net.pruned**2)

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
        "Columns of one layer are orthogonal, since a path has one weight of each. Components: both lower bounds, "
        "then both upper ones; the eigenvalue is that of all paths."
    ),
)


# --- paths/rank


def _rank(net: Net, _: Key) -> dict[str, Sides]:
    u = net.mean_power(2)
    values = jnp.linalg.svd(weighted(listed(net), u), compute_uv=False)
    measured = jnp.sum(values > 64 * jnp.finfo(values.dtype).eps * values[0]).astype(values.dtype)

    kept = net.kept > 0
    edges = [(c != 0) & kept[index] for c, index in zip(net.coefficients, net.indices, strict=True)]
    forward, backward = [u > 0], [jnp.ones(net.widths[-1], bool)]
    for edge in edges:
        forward.append(jnp.any(forward[-1][:, None] & edge, axis=0))
    for edge in edges[::-1]:
        backward.append(jnp.any(edge & backward[-1], axis=1))
    backward = backward[::-1]
    live = jnp.zeros(net.theta.size)
    for at, (edge, index) in enumerate(zip(edges, net.indices, strict=True)):
        on = forward[at][:, None] & edge & backward[at + 1]
        live = live.at[index].max(on.astype(live.dtype))
    channels = jnp.sum(jnp.any((net.into * live > 0), axis=2))
    right = Sides(measured, (jnp.sum(live) - channels).astype(values.dtype))
    return {"claim": right, "nothing subtracted": right._replace(theory=jnp.sum(live).astype(values.dtype))}


RANK = Claim(
    id="paths/rank",
    title="The rank of the path kernel is the live weights less the live hidden units",
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
        "Kept weights are not zero; a path is live when all its weights are kept and its input has u > 0. So fitting "
        "any labels in the linearised regime needs so many live weights beyond the units."
    ),
)


# --- paths/trace-drop


def _trace_drop(net: Net, _: Key) -> dict[str, Sides]:
    u = net.mean_power(2)

    def remaining(kept: Array) -> Array:
        return jnp.sum(weighted(listed(net, kept=kept), u) ** 2)

    whole = remaining(net.kept)
    removed = whole - jax.vmap(lambda gone: remaining(net.kept * (1 - gone)))(jnp.eye(net.theta.size))

    def sides(drop: Array) -> Sides:
        units = (net.into - net.out_of) @ drop
        measured = jnp.concatenate([removed, net.layer @ drop, units.ravel()])
        theory = jnp.concatenate([drop, whole + jnp.zeros(net.depth), jnp.zeros(units.size)])
        return Sides(measured, theory, scale=whole)

    return {
        "claim": sides(scored(net, scores.trace_drop, inputs="data")),
        "first term only": sides(scored(net, scores.path_trace, inputs="data")),
    }


TRACE_DROP = Claim(
    id="paths/trace-drop",
    title="By how much removing a weight lowers the trace of the path kernel, exactly",
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
    note="Components: each weight removed, the layers' sums, and what goes into a hidden unit less what leaves.",
)


# --- paths/isotropic-trace


def _isotropic_trace(net: Net, _: Key) -> dict[str, Sides]:
    inputs = net.x.shape[1]
    # Rows of √n₀ times an orthogonal matrix, the first of which span the data.
    axes, _ = jnp.linalg.qr(jnp.concatenate([net.x.T, jnp.eye(inputs, dtype=net.x.dtype)], axis=1))
    x = math.sqrt(inputs) * axes.T

    def outputs(theta: Array) -> Array:
        return net.run(theta, x, phi=lambda h: h)[0]

    measured = jnp.mean(jax.jacrev(outputs)(net.pruned) ** 2, axis=0) * net.kept

    def theory(matrices: list[Array], down_of, up_of) -> Array:
        parts = []
        for at, matrix in enumerate(matrices):
            down = jnp.eye(matrices[0].shape[0], dtype=matrix.dtype)
            for before in matrices[:at]:
                down = down @ before
            up = jnp.eye(matrix.shape[1], dtype=matrix.dtype)
            for after in matrices[at + 1 :]:
                up = up @ after
            parts.append((down_of(down)[None, :, None] * up_of(up).T[:, None, :]).reshape(up.shape[1], -1))
        return jnp.concatenate(parts, axis=1) * net.kept

    matrices = net.matrices(net.pruned)
    right = Sides(
        measured,
        theory(matrices, lambda down: jnp.sum(down**2, axis=0), jnp.square),
        scale=jnp.max(measured),
    )
    same = theory([matrix**2 for matrix in matrices], lambda down: jnp.sum(down, axis=0), lambda up: up)
    return {"claim": right, "same paths only": right._replace(theory=same)}


ISOTROPIC_TRACE = Claim(
    id="paths/isotropic-trace",
    title="What a weight of a deep linear network adds to the tangent kernel's trace, on isotropic inputs",
    statement=(
        r"\mathbb{E}\,xx^\top=I:\quad\mathbb{E}_x\Big(\frac{\partial f_k}{\partial W_l[a,b]}\Big)^2="
        r"(W_L\cdots W_{l+1})[k,a]^2\,\|(W_{l-1}\cdots W_1)[b,:]\|^2"
    ),
    sources=(GEBHART,),
    kind=Identity(),
    cases=MLPS,
    trial=_isotropic_trace,
    mutants=("same paths only",),
    batch=128,
    note=(
        "x is uniform on the data made orthogonal and completed to a basis of length √n₀, so that the expectation is "
        "a finite sum. The path-trace keeps only the terms of a path with itself."
    ),
)
