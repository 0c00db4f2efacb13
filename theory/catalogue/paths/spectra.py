"""paths/: bounds on the tangent kernel's eigenvalues and trace, by the spectra of path kernel and path features."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.paths.cases import SHORT, Rng, draw_network
from theory.catalogue.paths.cuts import AXES
from theory.catalogue.paths.kernel import GEBHART
from theory.catalogue.paths.listing import list_paths, path_features
from theory.catalogue.paths.networks import SHORT_DENSE, SHORT_WIDTHS, Net
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Bound


def _jacobian(net: Net) -> Float[Array, "N P"]:
    """The Jacobian of the network in its kept weights, by automatic differentiation."""
    whole = jax.jacrev(lambda theta: net.apply(theta, net.x))(net.masked)
    return whole.reshape(-1, net.theta.size) * net.kept


def _largest_eigenvalues(symmetric: Float[Array, "m m"], count: int) -> Float[Array, " count"]:
    """The largest eigenvalues, descending; zeros stand for those that are missing, or negative by rounding."""
    values = jnp.maximum(jnp.linalg.eigvalsh(symmetric)[::-1], 0)
    return jnp.pad(values, (0, max(0, count - values.size)))[:count]


def _spectra(net: Net) -> tuple[Array, Array, Array]:
    """The eigenvalues λ of Θ, ν of J_v^f(J_v^f)ᵀ and w of Π: as many of each as Θ has."""
    found = list_paths(net)
    features, jacobian = path_features(net, found), _jacobian(net)
    count = features.shape[0]
    return (
        _largest_eigenvalues(jacobian @ jacobian.T, count),
        _largest_eigenvalues(features @ features.T, count),
        _largest_eigenvalues(found.gram, count),
    )


# --- paths/eigen-bounds


def _eigen_bounds(net: Net, _: Key) -> dict[str, Sides]:
    values, nu, w = _spectra(net)
    count = values.size
    found = list_paths(net)
    features = path_features(net, found)
    pairs = [(i, j) for i in range(count) for j in range(count - i)]
    first, second = np.array(pairs).T
    trace = jnp.sum(_jacobian(net) ** 2)
    most = jnp.minimum(nu[0] * jnp.sum(found.jacobian**2), w[0] * jnp.sum(features**2))
    measured = jnp.concatenate([jnp.cumsum(values), values[first + second], trace[None]])
    theory = jnp.concatenate([jnp.cumsum(nu * w), nu[first] * w[second], most[None]])
    right = Sides(measured, theory, scale=jnp.full(measured.shape, nu[0] * w[0]))
    return {"claim": right, "½": right._replace(theory=theory / 2)}


EIGEN_BOUNDS = Claim(
    id="paths/eigen-bounds",
    title="The spectra of the path kernel and of the path features bound the eigenvalues of the tangent kernel",
    statement=(
        r"\sum_{i\le k}\lambda_i\le\sum_{i\le k}\nu_iw_i,\qquad\lambda_{i+j-1}\le\nu_iw_j,\qquad"
        r"\mathrm{Tr}\,\Theta\le\min(\nu_1\mathrm{Tr}\,\Pi,\;w_1\mathrm{Tr}\,J_v^f(J_v^f)^\top)"
    ),
    sources=(GEBHART,),
    kind=Bound(search=("theta", "x")),
    cases=SHORT,
    trial=_eigen_bounds,
    mutants=("½",),
    batch=128,
    note=(
        "ν are the eigenvalues of J_v^f(J_v^f)ᵀ, and w those of Π. All bounds are equalities on a network that is a "
        "chain of positive weights."
    ),
)


# --- paths/eigen-elementwise


def _eigen_elementwise(net: Net, _: Key) -> dict[str, Sides]:
    values, nu, w = _spectra(net)
    return {"claim": Sides(values, nu * w, scale=jnp.full(values.shape, nu[0] * w[0]))}


def _diagonal(rng: Rng, dataset: Dataset) -> Net:
    """W₁ = diag(1/√2, 1), W₂ = (1/√2, 1) and inputs √2 e₁, e₂: λ = (2, 2), ν = (2, 1), w = (2, 1)."""
    first, second = SHORT_DENSE.indices
    kept = np.zeros(SHORT_DENSE.size)
    kept[[first[0, 0], first[1, 1], second[0, 0], second[1, 0]]] = 1
    theta = np.ones(SHORT_DENSE.size)
    theta[[first[0, 0], second[0, 0]]] = 1 / np.sqrt(2)
    x = np.zeros((3, SHORT_WIDTHS[0]))
    x[0, 0] = np.sqrt(2)
    x[1, 1] = 1
    return draw_network(rng, lambda: x, SHORT_DENSE, theta=theta, kept=kept)


EIGEN_ELEMENTWISE = Claim(
    id="paths/eigen-elementwise",
    title="Each eigenvalue of the tangent kernel is at most the product of the path kernel's and the path features'",
    statement=r"\lambda_i(\Theta)\le\nu_iw_i\quad\forall i",
    sources=(Source("gebhart2021paths", "known-false"),),
    kind=Bound(search=("theta", "x")),
    cases=(*SHORT, Case("diagonal", _diagonal)),
    trial=_eigen_elementwise,
    free=("theta", "kept", "x"),
    axes=AXES,
    expected="REFUTED",
    batch=128,
    note=(
        "False, because the two matrices may be large in different directions. It does hold for sums of the largest "
        "eigenvalues (paths/eigen-bounds)."
    ),
)


# --- paths/trace-bounds-ntk


def _trace_bounds(net: Net, _: Key) -> dict[str, Sides]:
    found = list_paths(net)
    features = jnp.sum(path_features(net, found) ** 2)
    trace = jnp.sum(_jacobian(net) ** 2)
    top = jnp.linalg.eigvalsh(found.gram)[-1]
    path_trace = jnp.sum(found.jacobian**2)
    right = Sides(jnp.stack([trace, trace]), jnp.stack([features * path_trace, features * top]))
    return {"claim": right, "Tr Θ ≤ Tr Π": Sides(trace, path_trace)}


TRACE_BOUNDS_NTK = Claim(
    id="paths/trace-bounds-ntk",
    title="The path kernel and the path features bound the trace of the tangent kernel",
    statement=(r"\mathrm{Tr}\,\Theta(X,X)\le\lambda_1(\Pi)\,\|J_v^f(X)\|_F^2\le\|J_\theta^v\|_F^2\,\|J_v^f(X)\|_F^2"),
    sources=(GEBHART,),
    kind=Bound(search=("theta", "x")),
    cases=SHORT,
    trial=_trace_bounds,
    mutants=("Tr Θ ≤ Tr Π",),
    batch=128,
    note="Both bounds involve the path features of the data. The trace of the path kernel alone is no bound.",
)
