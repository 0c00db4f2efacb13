"""paths/: the tangent kernel as a sum over pairs of paths, and its trace on isotropic inputs."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune.types import Key
from theory.catalogue.paths.cases import ALL, MLPS
from theory.catalogue.paths.kernel import GEBHART
from theory.catalogue.paths.listing import features_with_gates, list_paths
from theory.catalogue.paths.networks import Net
from theory.claim import Claim, Sides
from theory.kinds import Identity

# --- paths/ntk-decomposition


def _ntk_decomposition(net: Net, _: Key) -> dict[str, Sides]:
    found = list_paths(net)

    def by_differentiation(outputs: Callable[..., Array], *arguments: Array) -> Array:
        """Θ from the whole Jacobian of a function of the weights (and of biases)."""
        whole = jax.jacrev(outputs, argnums=tuple(range(len(arguments))))(*arguments)
        columns = [part.reshape(part.shape[0] * part.shape[1], -1) for part in whole]
        columns[0] = columns[0] * net.kept
        jacobian = jnp.concatenate(columns, axis=1)
        return jacobian @ jacobian.T

    def by_paths(preactivations: list[Array]) -> Array:
        features = features_with_gates(net, found, preactivations, net.x)
        return features @ found.jacobian @ found.jacobian.T @ features.T

    def sides(theta: Array, preactivations: list[Array]) -> Sides:
        return Sides(theta, by_paths(preactivations), scale=jnp.linalg.norm(theta))

    def network(theta: Array) -> Array:
        return net.apply(theta, net.x)

    def tanh(theta: Array) -> Array:
        return net.run(theta, net.x, activation=jnp.tanh)[0]

    def biased(theta: Array, bias: Array) -> Array:
        return net.run(theta, net.x, bias=bias)[0]

    theta = net.masked
    return {
        "claim": sides(by_differentiation(network, theta), net.run(theta, net.x)[1]),
        "tanh": sides(by_differentiation(tanh, theta), net.run(theta, net.x, activation=jnp.tanh)[1]),
        "biases": sides(by_differentiation(biased, theta, net.bias), net.run(theta, net.x, bias=net.bias)[1]),
    }


NTK_DECOMPOSITION = Claim(
    id="paths/ntk-decomposition",
    title="The tangent kernel is the path kernel between the features of the active paths",
    statement=r"\Theta(x,x')=J_v^f(x)\,\Pi\,J_v^f(x')^\top,\qquad\Pi=J_\theta^v(J_\theta^v)^\top",
    sources=(GEBHART,),
    kind=Identity(),
    cases=ALL,
    trial=_ntk_decomposition,
    mutants=("tanh", "biases"),
    batch=128,
    note=(
        "The networks have two outputs and are evaluated on three samples. The left side is found by automatic "
        "differentiation, the right side from a list of all paths. One mutant has another activation, the other has "
        "trainable biases."
    ),
)


# --- paths/isotropic-trace


def _products_around_layers(
    matrices: list[Float[Array, "_ _"]],
) -> list[tuple[Float[Array, "_ _"], Float[Array, "_ _"]]]:
    """For each layer, the product of the layers before it and that of the layers after it."""
    products = []
    for at, matrix in enumerate(matrices):
        before = jnp.eye(matrices[0].shape[0], dtype=matrix.dtype)
        for earlier in matrices[:at]:
            before = before @ earlier
        after = jnp.eye(matrix.shape[1], dtype=matrix.dtype)
        for later in matrices[at + 1 :]:
            after = after @ later
        products.append((before, after))
    return products


def _isotropic_trace(net: Net, _: Key) -> dict[str, Sides]:
    inputs = net.x.shape[1]
    # The samples are √n₀ times an orthonormal basis whose first vectors span the data.
    basis, _ = jnp.linalg.qr(jnp.concatenate([net.x.T, jnp.eye(inputs, dtype=net.x.dtype)], axis=1))
    x = math.sqrt(inputs) * basis.T

    def outputs(theta: Array) -> Array:
        return net.run(theta, x, activation=lambda h: h)[0]

    measured = jnp.mean(jax.jacrev(outputs)(net.masked) ** 2, axis=0) * net.kept

    def theory(matrices: list[Array], squares_before, squares_after) -> Array:
        """Σ over inputs of squares (W_{l−1}⋯W_1)[b, i]², times (W_L⋯W_{l+1})[k, a]², for each output k and weight."""
        parts = []
        for before, after in _products_around_layers(matrices):
            part = squares_before(before)[None, :, None] * squares_after(after).T[:, None, :]
            parts.append(part.reshape(after.shape[1], -1))
        return jnp.concatenate(parts, axis=1) * net.kept

    matrices = net.matrices(net.masked)
    right = Sides(
        measured,
        theory(matrices, lambda before: jnp.sum(before**2, axis=0), jnp.square),
        scale=jnp.max(measured),
    )
    squared = [matrix**2 for matrix in matrices]
    same_paths = theory(squared, lambda before: jnp.sum(before, axis=0), lambda after: after)
    return {"claim": right, "same paths only": right._replace(theory=same_paths)}


ISOTROPIC_TRACE = Claim(
    id="paths/isotropic-trace",
    title="What a weight of a deep linear network adds to the trace of the tangent kernel, on isotropic inputs",
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
        "x is drawn uniformly from an orthogonal basis with vectors of length √n₀, the first of which span the data. "
        "The expectation is thus a finite sum. The mutant keeps only the terms of a path with itself, as the trace of "
        "the path kernel does."
    ),
)
