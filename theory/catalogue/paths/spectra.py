"""paths/: what the spectra of the path kernel and of the path features say of the tangent kernel's."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.paths.cases import EIGEN, SHORT, SMALL, Net, Rng, complete, listed, path_features
from theory.catalogue.paths.kernel import GEBHART, tangent_kernel
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Bound


def _measured(net: Net) -> Float[Array, "N P"]:
    """The Jacobian of the network, by automatic differentiation."""
    whole = jax.jacrev(lambda theta: net.apply(theta, net.x))(net.pruned)
    return whole.reshape(-1, net.theta.size) * net.kept


def _descending(symmetric: Float[Array, "m m"], count: int) -> Float[Array, " count"]:
    """The largest eigenvalues, none below zero."""
    values = jnp.maximum(jnp.linalg.eigvalsh(symmetric)[::-1], 0)
    return jnp.pad(values, (0, max(0, count - values.size)))[:count]


def _spectra(net: Net) -> tuple[Array, Array, Array]:
    """λ of Θ, ν of J_v^f J_v^fᵀ, w of Π, all of the length of the first."""
    found = listed(net)
    along = path_features(net, found)
    count = along.shape[0]
    return (
        _descending(tangent_kernel(_measured(net)), count),
        _descending(along @ along.T, count),
        _descending(found.jacobian.T @ found.jacobian, count),
    )


# --- paths/eigen-bounds


def _eigen_bounds(net: Net, _: Key) -> dict[str, Sides]:
    values, nu, w = _spectra(net)
    count = values.size
    found = listed(net)
    along = path_features(net, found)
    pairs = [(i, j) for i in range(count) for j in range(count - i)]
    first, second = np.array(pairs).T
    trace = jnp.sum(_measured(net) ** 2)
    least = jnp.minimum(nu[0] * jnp.sum(found.jacobian**2), w[0] * jnp.sum(along**2))
    measured = jnp.concatenate([jnp.cumsum(values), values[first + second], trace[None]])
    theory = jnp.concatenate([jnp.cumsum(nu * w), nu[first] * w[second], least[None]])
    right = Sides(measured, theory, scale=jnp.full(measured.shape, nu[0] * w[0]))
    return {"claim": right, "½": right._replace(theory=theory / 2)}


EIGEN_BOUNDS = Claim(
    id="paths/eigen-bounds",
    title="Eigenvalues of the tangent kernel, bounded by those of the path kernel and of the path features",
    statement=(
        r"\sum_{i\le k}\lambda_i\le\sum_{i\le k}\nu_iw_i,\qquad\lambda_{i+j-1}\le\nu_iw_j,\qquad"
        r"\mathrm{Tr}\,\Theta\le\min(\nu_1\mathrm{Tr}\,\Pi,\;w_1\mathrm{Tr}\,J_v^f(J_v^f)^\top)"
    ),
    sources=(GEBHART,),
    kind=Bound(search=("theta", "x")),
    cases=EIGEN,
    trial=_eigen_bounds,
    mutants=("½",),
    batch=128,
    note="ν are the eigenvalues of J_v^f(J_v^f)ᵀ, w those of Π. A chain of positive weights attains all of them.",
)


# --- paths/eigen-elementwise


def _eigen_elementwise(net: Net, _: Key) -> dict[str, Sides]:
    values, nu, w = _spectra(net)
    return {"claim": Sides(values, nu * w, scale=jnp.full(values.shape, nu[0] * w[0]))}


def _diagonal(rng: Rng, dataset: Dataset) -> Net:
    """W₁ = diag(1/√2, 1), W₂ = (1/√2, 1) and inputs √2 e₁, e₂: λ = (2, 2), ν = (2, 1), w = (2, 1)."""
    theta, kept = np.ones(sum(index.size for index in SMALL.indices)), np.zeros(15)
    first, second = SMALL.indices
    kept[[first[0, 0], first[1, 1], second[0, 0], second[1, 0]]] = 1
    theta[[first[0, 0], second[0, 0]]] = 1 / np.sqrt(2)
    x = np.zeros((3, SHORT[0]))
    x[0, 0], x[1, 1] = np.sqrt(2), 1
    return complete(rng, lambda: x, SMALL, theta=theta, kept=kept)


EIGEN_ELEMENTWISE = Claim(
    id="paths/eigen-elementwise",
    title="Each eigenvalue of the tangent kernel is at most the product of the two spectra's",
    statement=r"\lambda_i(\Theta)\le\nu_iw_i\quad\forall i",
    sources=(Source("gebhart2021paths", "known-false"),),
    kind=Bound(search=("theta", "x")),
    cases=(*EIGEN, Case("diagonal", _diagonal)),
    trial=_eigen_elementwise,
    expected="REFUTED",
    batch=128,
    note="False: the two may be large in different directions. Sums of the largest obey it (paths/eigen-bounds).",
)


# --- paths/trace-bounds-ntk


def _trace_bounds(net: Net, _: Key) -> dict[str, Sides]:
    found = listed(net)
    along = jnp.sum(path_features(net, found) ** 2)
    trace = jnp.sum(_measured(net) ** 2)
    top = jnp.linalg.eigvalsh(found.jacobian.T @ found.jacobian)[-1]
    size = jnp.sum(found.jacobian**2)
    right = Sides(jnp.stack([trace, trace]), jnp.stack([along * size, along * top]))
    return {"claim": right, "Tr Θ ≤ Tr Π": Sides(trace, size)}


TRACE_BOUNDS_NTK = Claim(
    id="paths/trace-bounds-ntk",
    title="The path kernel bounds the trace of the tangent kernel",
    statement=(r"\mathrm{Tr}\,\Theta(X,X)\le\lambda_1(\Pi)\,\|J_v^f(X)\|_F^2\le\|J_\theta^v\|_F^2\,\|J_v^f(X)\|_F^2"),
    sources=(GEBHART,),
    kind=Bound(search=("theta", "x")),
    cases=EIGEN,
    trial=_trace_bounds,
    mutants=("Tr Θ ≤ Tr Π",),
    batch=128,
    note="Both need the features of the data: the trace of the path kernel alone bounds nothing.",
)
