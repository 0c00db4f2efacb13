"""Training of the linearised network: gradient flow and descent in closed form, and the network itself.

Near parameters θ_0 a network is f(θ_0) + J(θ − θ_0). Under the sum loss ½‖f − y‖² its outputs follow the kernel Θ = JJᵀ
alone, so the closed forms take a kernel: dense, pruned, sketched or infinite-width.

`linearise` gives the same model as a function of its parameters, for any optimiser. Claims about the closed forms
measure it.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

from sketchprune import _checks
from sketchprune._arithmetic import decay_and_gain, product
from sketchprune._boundary import checked
from sketchprune._names import own_names
from sketchprune.types import ApplyFn, Params

__dir__ = own_names(__name__)

Outputs = Float[Array | np.ndarray, "n k"] | Float[Array | np.ndarray, " n"]
"""Outputs of n samples; [n] where there is one output, or where samples and outputs are one axis already."""
Kernel = Float[Array | np.ndarray, "r r"] | Float[Array | np.ndarray, "n n k k"]
"""Θ as [n, n, k, k], as the matrix [nk, nk] with the sample as the slower index, or as [n, n] when every output has
the same kernel and no two outputs share any (Θ ⊗ I_k, as at infinite width)."""
CrossKernel = Float[Array | np.ndarray, "rows columns"] | Float[Array | np.ndarray, "m n k k"]
"""Θ_* between m other points and the n training points, in the form of the `Kernel`."""


@checked
def flow(
    kernel: Kernel,
    outputs: Outputs,
    targets: Real[Array | np.ndarray, "n k"] | Real[Array | np.ndarray, " n"],
    times: ArrayLike,
    *,
    cross: CrossKernel | None = None,
    cross_outputs: Float[Array | np.ndarray, "m k"] | Float[Array | np.ndarray, " m"] | None = None,
) -> Float[Array, "..."]:
    """Outputs of the linearised model under gradient flow on the sum loss ½‖f − y‖², at the given times.

    f_t = y + e^{−Θt}(f_0 − y), with ``kernel`` Θ, ``outputs`` f_0 and ``targets`` y.

    With ``cross`` Θ_* and ``cross_outputs`` f_0* it returns the outputs at other points,
    f_t* = f_0* + Θ_* φ_t(Θ)(y − f_0), where φ_t(λ) = (1 − e^{−λt})/λ.

    **Singular kernels.** Θ may be any symmetric positive semi-definite matrix. Eigenvalues up to r ε λ_max count as
    zero, for a matrix of size r and the dtype's ε. In their directions f_t = f_0, and other points do not change, since
    the rows of Θ_* lie in the range of Θ when both are blocks of one kernel. NaN gives NaN.

    **Small residuals.** f_t − y keeps its relative precision only if ``targets`` is zero: to follow a residual far
    below y, pass f_0 − y as ``outputs`` and zero as ``targets``.

    Args:
        kernel: Θ, [n, n, k, k], [nk, nk], or [n, n] for a kernel that all outputs share.
        outputs: f_0 at the training points, [n, k] or [n].
        targets: y, shaped like ``outputs``.
        times: One number or an array of any shape, infinity allowed. Time is that of the sum loss: under the mean over
            N numbers, divide it by N.
        cross: Θ_* between other points and the training points.
        cross_outputs: f_0 at the other points, [m, k] or [m].

    Returns:
        f_t, or f_t* with ``cross``, with the shape of ``times`` in front, in the common dtype of the other arrays.

    Raises:
        ValueError: Shapes that do not fit, no samples, negative or NaN times, and a kernel that is not symmetric or has
            an eigenvalue below −√ε λ_max. Values are not looked at under a trace.

    Cost:
        r³ for the eigenvectors and r² for every time and output; r = n for a shared kernel, else nk.

    Source:
        lee2019wide, jacot2018ntk; tangent/trajectory.

    Example:
        >>> kernel = jnp.array([[1.0, 0.0], [0.0, 0.0]])
        >>> flow(kernel, jnp.array([4.0, 4.0]), jnp.zeros(2), jnp.array([0.0, jnp.inf])).tolist()
        [[4.0, 4.0], [0.0, 4.0]]
    """
    known = _checks.concrete(times)
    if known is not None and not (known >= 0).all():
        raise ValueError(f"times is {times}; it takes numbers >= 0, infinity among them")
    modes, shape = _modes(kernel, outputs, targets, cross, cross_outputs)
    decay, gain = _flow_factors(modes, jnp.asarray(times, modes.values.dtype))
    return _assemble(modes, decay if cross is None else gain, shape)


@checked
def descent(
    kernel: Kernel,
    outputs: Outputs,
    targets: Real[Array | np.ndarray, "n k"] | Real[Array | np.ndarray, " n"],
    step_size: ArrayLike,
    steps: Int[Array | np.ndarray, "..."] | int,
    *,
    cross: CrossKernel | None = None,
    cross_outputs: Float[Array | np.ndarray, "m k"] | Float[Array | np.ndarray, " m"] | None = None,
) -> Float[Array, "..."]:
    """Outputs of the linearised model after steps of gradient descent on the sum loss ½‖f − y‖².

    f_t = y + (I − ηΘ)^t (f_0 − y), with η the ``step_size``. At other points
    f_t* = f_0* + Θ_* φ_t(Θ)(y − f_0), φ_t(λ) = (1 − (1 − ηλ)^t)/λ.

    Accurate for any number of steps, 10^12 included: powers of numbers near one are taken through log1p. The limit
    of infinitely many steps is `flow` at time infinity when η < 2/λ_max. Above that the outputs grow without bound,
    here as in training, up to inf and NaN.

    Args:
        kernel: As for `flow`.
        outputs: As for `flow`.
        targets: As for `flow`.
        step_size: η, one finite number > 0.
        steps: Whole numbers >= 0 of any integer dtype: one, or an array of any shape.
        cross: As for `flow`.
        cross_outputs: As for `flow`.

    Returns:
        As `flow`, with the shape of ``steps`` in front.

    Raises:
        ValueError: As for `flow`; also for steps that are not whole numbers >= 0, and for a bad step size.

    Cost:
        That of `flow`.

    Source:
        lee2019wide; tangent/closed-form.

    Example:
        >>> descent(2 * jnp.eye(2), jnp.array([4.0, 8.0]), jnp.zeros(2), 0.5, jnp.arange(3)).tolist()
        [[4.0, 8.0], [0.0, 0.0], [0.0, 0.0]]
    """
    _checks.steps(step_size, steps)
    modes, shape = _modes(kernel, outputs, targets, cross, cross_outputs)
    decay, gain = _descent_factors(modes, jnp.asarray(step_size, modes.values.dtype), jnp.asarray(steps))
    return _assemble(modes, decay if cross is None else gain, shape)


@checked
def linearise(apply: ApplyFn, params: Params) -> ApplyFn:
    """The network linearised at the given parameters, itself a network of parameters of that structure.

    f_lin(θ, x) = f(θ_0, x) + J(θ_0, x)(θ − θ_0), θ_0 the ``params`` given here.

    At θ_0 it equals f. Its Jacobian is J(θ_0, x) at every θ, so any optimiser can train it. Leaves that are not
    floating (integer counters, keys) stay as they are in ``params``. Valid where ``apply`` is differentiable; ReLU has
    derivative 0 at 0, as in `jax.nn.relu`. Works under jit, vmap and grad.

    Args:
        apply: ``apply(params, x) -> [n, k]``.
        params: θ_0, any pytree.

    Returns:
        ``apply_linearised(params, x) -> [n, k]``. It raises ValueError for parameters of another structure, shape or
        dtype than θ_0, naming the leaf, and when the outputs are not real floating numbers.

    Cost:
        A call is one forward and one tangent pass of ``apply``; its gradient is one pullback more.

    Source:
        lee2019wide; tangent/closed-form, tangent/trajectory.

    Example:
        >>> cube = linearise(lambda w, x: w**3 * x, jnp.array(1.0))
        >>> cube(jnp.array(2.0), jnp.array([[1.0]])).tolist()  # 1 + 3 (2 − 1)
        [[4.0]]
    """

    def apply_linearised(new: Params, x: Any) -> Float[Array, "n k"]:
        tangents = _tangents(new, params)
        outputs, change = jax.jvp(lambda origin: apply(origin, x), (params,), (tangents,))
        if not jnp.issubdtype(outputs.dtype, jnp.floating):
            raise ValueError(f"apply returns {outputs.dtype}; it takes real floating outputs")
        return outputs + change

    return apply_linearised


def _tangents(new: Params, params: Params) -> Params:
    """The difference new − params, with zeros of JAX's type float0 on leaves that have no derivative."""
    origin, structure = jax.tree_util.tree_flatten_with_path(params)
    _checks.same_structure("params", new, "the parameters linearised at", params)
    tangents = []
    for (path, old), leaf in zip(origin, jax.tree.leaves(new), strict=True):
        old, leaf = jnp.asarray(old), jnp.asarray(leaf)
        if (leaf.shape, leaf.dtype) != (old.shape, old.dtype):
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} is {leaf.dtype}{list(leaf.shape)}; "
                f"it takes {old.dtype}{list(old.shape)}, as linearised at"
            )
        inexact = jnp.issubdtype(old.dtype, jnp.inexact)
        tangents.append(leaf - old if inexact else np.zeros(old.shape, jax.dtypes.float0))
    return jax.tree.unflatten(structure, tangents)


class _Modes(NamedTuple):
    """A problem in the eigenvectors of its kernel: the closed forms are offset + left (factor(values) ∘ right).

    Attributes:
        values: The eigenvalues of the kernel.
        null: Which of them count as zero.
        left: From the eigenvectors to the outputs.
        right: What begins in each eigenvector, for each column of outputs.
        offset: What the factors do not touch.
    """

    values: Float[Array, " r"]
    null: Bool[Array, " r"]
    left: Float[Array, "m r"]
    right: Float[Array, "r c"]
    offset: Float[Array, "m c"]


class _Spectrum(NamedTuple):
    """Eigenvalues in ascending order, eigenvectors, and what makes a matrix a kernel.

    Attributes:
        values: The eigenvalues.
        vectors: The eigenvectors, in columns.
        null: Which eigenvalues count as zero.
        symmetric: Whether the matrix equals its transpose.
        positive: Whether no eigenvalue is negative.
    """

    values: Float[Array, " r"]
    vectors: Float[Array, "r r"]
    null: Bool[Array, " r"]
    symmetric: Bool[Array, ""]
    positive: Bool[Array, ""]


def _modes(kernel: Any, outputs: Any, targets: Any, cross: Any, cross_outputs: Any) -> tuple[_Modes, tuple[int, ...]]:
    """The problem in the eigenvectors of its kernel, and the shape of one answer; all shapes are checked."""
    kernel, outputs, targets = jnp.asarray(kernel), jnp.asarray(outputs), jnp.asarray(targets)
    dtype = _common_dtype(kernel, outputs, targets)
    n = outputs.shape[0]
    k = math.prod(outputs.shape[1:])
    shared = k > 1 and kernel.shape == (n, n)
    columns = k if shared else 1
    spectrum = _checked_spectrum(_matrix("kernel", kernel, n, n, k, shared).astype(dtype))
    values, vectors, null = spectrum.values, spectrum.vectors, spectrum.null
    start = outputs.reshape(-1, columns).astype(dtype)
    goal = targets.reshape(-1, columns).astype(dtype)
    if cross is None:
        if cross_outputs is not None:
            raise ValueError("cross is None; it takes the kernel to the points of cross_outputs")
        return _Modes(values, null, vectors, product(vectors.T, start - goal), goal), outputs.shape
    cross, cross_outputs = _checked_cross(cross, cross_outputs, outputs)
    rows = _matrix("cross", cross, cross_outputs.shape[0], n, k, shared).astype(dtype)
    offset = cross_outputs.reshape(-1, columns).astype(dtype)
    modes = _Modes(values, null, product(rows, vectors), product(vectors.T, goal - start), offset)
    return modes, cross_outputs.shape


def _common_dtype(kernel: Array, outputs: Array, targets: Array) -> np.dtype:
    """The dtype of the answer. Raises ValueError for outputs and targets that do not fit, or are not real."""
    if outputs.ndim not in (1, 2) or outputs.size == 0:
        raise ValueError(f"outputs has shape {outputs.shape}; it takes [n, k] or [n], n and k > 0")
    if targets.shape != outputs.shape:
        raise ValueError(f"targets has shape {targets.shape}; it takes that of outputs, {outputs.shape}")
    dtype = jnp.result_type(kernel, outputs, targets)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"kernel and outputs are {kernel.dtype}, {outputs.dtype}; they take real floating numbers")
    return dtype


def _checked_cross(cross: Any, cross_outputs: Any, outputs: Array) -> tuple[Array, Array]:
    """The kernel to other points and their outputs as arrays. Raises ValueError where they do not fit."""
    if cross_outputs is None:
        raise ValueError("cross_outputs is None; it takes the first outputs at the points of cross")
    cross_outputs = jnp.asarray(cross_outputs)
    if cross_outputs.shape[1:] != outputs.shape[1:] or cross_outputs.ndim != outputs.ndim:
        raise ValueError(
            f"cross_outputs has shape {cross_outputs.shape}; it takes that of outputs, {outputs.shape}, "
            "but for the number of points"
        )
    return jnp.asarray(cross), cross_outputs


def _matrix(name: str, kernel: Array, m: int, n: int, k: int, shared: bool) -> Float[Array, "rows columns"]:
    """The kernel as a matrix: [m, n] if all outputs share it, else [mk, nk]."""
    if shared and kernel.shape == (m, n):
        return kernel
    if not shared and kernel.shape == (m * k, n * k):
        return kernel
    if not shared and kernel.shape == (m, n, k, k):
        return kernel.transpose(0, 2, 1, 3).reshape(m * k, n * k)
    shapes = f"{(m, n)}" if shared else f"{(m, n)}, {(m * k, n * k)} or {(m, n, k, k)}"
    raise ValueError(f"{name} has shape {kernel.shape}; it takes {shapes} for these outputs")


def _checked_spectrum(matrix: Float[Array, "r r"]) -> _Spectrum:
    """The spectrum. Raises ValueError for a matrix that is not symmetric or positive, where its values are known."""
    spectrum = _spectrum(matrix)
    symmetric = _checks.concrete(spectrum.symmetric)
    if symmetric is not None and not symmetric:
        raise ValueError("kernel differs from its transpose; it takes a symmetric matrix")
    positive = _checks.concrete(spectrum.positive)
    if positive is not None and not positive:
        raise ValueError(f"kernel has the eigenvalue {spectrum.values[0]}; it takes a positive semi-definite matrix")
    return spectrum


@jax.jit
def _spectrum(matrix: Float[Array, "r r"]) -> _Spectrum:
    """NaN is neither zero nor a reason to refuse the matrix: it goes on into the outputs."""
    values, vectors = jnp.linalg.eigh(matrix)
    epsilon = jnp.finfo(values.dtype).eps
    largest = jnp.abs(values).max()
    return _Spectrum(
        values,
        vectors,
        null=values <= len(values) * epsilon * largest,
        symmetric=~(jnp.abs(matrix - matrix.T).max() > epsilon**0.5 * jnp.abs(matrix).max()),
        positive=~(values[0] < -(epsilon**0.5) * largest),
    )


@jax.jit
def _flow_factors(modes: _Modes, times: Float[Array, "*t"]) -> tuple[Float[Array, "*t r"], Float[Array, "*t r"]]:
    """e^{−λt} and φ_t(λ) for each eigenvalue, with their values at zero where it counts as zero."""
    values = jnp.where(modes.null, 1, modes.values)
    times = times[..., None]
    decay = jnp.exp(-values * times)
    gain = -jnp.expm1(-values * times) / values
    return jnp.where(modes.null, 1, decay), jnp.where(modes.null, 0, gain)


@jax.jit
def _descent_factors(
    modes: _Modes, step_size: Float[Array, ""], steps: Int[Array, "*t"]
) -> tuple[Float[Array, "*t r"], Float[Array, "*t r"]]:
    """(1 − ηλ)^t and φ_t(λ) for each eigenvalue, with their values at zero where it counts as zero."""
    values = jnp.where(modes.null, 1, modes.values)
    decay, gain = decay_and_gain(step_size * values, steps[..., None])
    return jnp.where(modes.null, 1, decay), jnp.where(modes.null, 0, gain / values)


def _assemble(modes: _Modes, factor: Float[Array, "*t r"], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """The closed form from its factor in each eigenvector."""
    change = jnp.einsum("mr,...r,rc->...mc", modes.left, factor, modes.right, precision="highest")
    return (modes.offset + change).reshape(*factor.shape[:-1], *shape)
