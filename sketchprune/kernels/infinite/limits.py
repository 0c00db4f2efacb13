"""Kernels at infinite width, and what a network predicts after training with them."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real

from sketchprune._boundary import checked
from sketchprune.kernels.infinite.networks import KernelFn, mlp
from sketchprune.kernels.linearised import flow

Samples = Float[Array | np.ndarray, "n *d"]
OtherSamples = Float[Array | np.ndarray, "m *d"]


@checked
def ntk(network: KernelFn | Sequence[int], x1: Samples, x2: OtherSamples | None = None) -> Float[Array, "n m"]:
    """The neural tangent kernel of the infinitely wide network, the same for each of its outputs.

    Θ_∞(x, x') = lim Σ_i ∂_i f(x) ∂_i f(x') over all raw (standard normal) parameters.

    Over several outputs the kernel is Θ_∞ ⊗ I: the empirical [n, m, k, k] tends to Θ_∞ on its diagonal and to 0
    elsewhere, and its trace tends to k Θ_∞.

    ReLU kernels of parallel inputs (the diagonal) have a relative error near √ε from an arc cosine: 10⁻⁹ in float64 and
    10⁻⁴ in float32. NaN in an input gives NaN in its row.

    Args:
        network: What `mlp` or `cnn` return, or any kernel function of neural-tangents; or a sequence of widths, hidden
            ones and then the outputs, which stands for ``mlp(len(widths))``: only their number matters.
        x1: Samples [n, ...].
        x2: Samples [m, ...] of the same shape; ``x1`` by default.

    Returns:
        Θ_∞ as [n, m], in the dtype of the inputs.

    Raises:
        ValueError: No samples, inputs that are not floating, that differ in shape beyond the first axis, or that are
            not of the network's rank.
        ImportError: The extra ``infinite`` is not installed.

    Cost:
        n m d, and n m for each layer of an MLP; see `cnn` for the other.

    Source:
        jacot2018ntk; tangent/infinite-width, tangent/random-pruning-limit.

    Example:
        >>> round(ntk([512, 512, 1], jnp.array([[1.0, 1.0]])).item(), 3)  # ‖x‖²/d for each layer
        3.0
    """
    return _kernels(network, x1=x1, x2=x2).ntk


@checked
def nngp(network: KernelFn | Sequence[int], x1: Samples, x2: OtherSamples | None = None) -> Float[Array, "n m"]:
    """The covariance of each output of the infinitely wide network at the start, a Gaussian process.

    K(x, x') = lim E f(x) f(x').

    Args:
        network: As for `ntk`.
        x1: Samples [n, ...].
        x2: Samples [m, ...] of the same shape; ``x1`` by default.

    Returns:
        K as [n, m], in the dtype of the inputs.

    Raises:
        ValueError: As for `ntk`.
        ImportError: As for `ntk`.

    Cost:
        As for `ntk`.

    Source:
        lee2019wide; tangent/infinite-width.

    Example:
        >>> round(nngp([512, 512, 1], jnp.array([[1.0, 1.0]])).item(), 3)  # σ_w² = 2 keeps ‖x‖²/d under ReLU
        1.0
    """
    return _kernels(network, x1=x1, x2=x2).nngp


class Prediction(NamedTuple):
    """Outputs at the test points over random starts.

    Attributes:
        mean: Their mean, with the shape of the times in front.
        covariance: The covariance between test points, which every output has, with the shape of the times in front.
    """

    mean: Float[Array, "*t m k"] | Float[Array, "*t m"]
    covariance: Float[Array, "*t m m"]


@checked
def predict(
    network: KernelFn | Sequence[int],
    x_train: Samples,
    y_train: Real[Array | np.ndarray, "n k"] | Real[Array | np.ndarray, " n"],
    x_test: OtherSamples,
    times: ArrayLike = jnp.inf,
) -> Prediction:
    """The law of the infinitely wide network's outputs after gradient flow on the sum loss ½‖f − y‖².

    With A = Θ_* Θ⁻¹(I − e^{−Θt}): mean A y, covariance K_** − A K_*ᵀ − K_* Aᵀ + A K Aᵀ. Θ is the NTK and K the
    covariance at the start, Θ_* and K_* are between test and training points, K_** between test points.

    The outputs are a Gaussian process, one independent copy for each output. Times, their units and singular kernels
    are treated as in `linearised.flow`; neural-tangents' own predictions divide 0 by 0 for singular kernels.

    Args:
        network: As for `ntk`.
        x_train: Training samples [n, ...].
        y_train: Their targets, [n, k] or [n].
        x_test: Test samples [m, ...].
        times: One time or an array of any shape; infinity, the default, is training to the end.

    Returns:
        Mean and covariance.

    Raises:
        ValueError: As for `ntk` and `linearised.flow`.
        ImportError: As for `ntk`.

    Cost:
        The kernels; n³; (m n + m²) n for each time.

    Source:
        lee2019wide.

    Example:
        >>> line = mlp(1)
        >>> predict(line, jnp.array([[1.0]]), jnp.array([2.0]), jnp.array([[3.0]])).mean.tolist()
        [6.0]
    """
    train = _kernels(network, x_train=x_train)
    cross = _kernels(network, x_test=x_test, x_train=x_train)
    test = _kernels(network, x_test=x_test)
    samples = len(train.ntk)
    y_train = jnp.asarray(y_train)
    if y_train.ndim not in (1, 2) or len(y_train) != samples:
        raise ValueError(f"y_train has shape {y_train.shape}; it takes [{samples}] or [{samples}, k]")
    # A is what the flow makes of unit targets from outputs 0: one column for each training sample.
    unit = jnp.eye(samples, dtype=train.ntk.dtype)
    operator = flow(train.ntk, 0 * unit, unit, times, cross=cross.ntk, cross_outputs=jnp.zeros_like(cross.ntk))
    return _posterior(operator, y_train.astype(unit.dtype), train.nngp, cross.nngp, test.nngp)


@jax.jit
def _posterior(
    operator: Float[Array, "*t m n"],
    y: Float[Array, "n ..."],
    train: Float[Array, "n n"],
    cross: Float[Array, "m n"],
    test: Float[Array, "m m"],
) -> Prediction:
    """Mean and covariance from the operator A and the covariances at the start."""
    product = functools.partial(jnp.einsum, precision="highest")
    mixed = product("...mn,pn->...mp", operator, cross)
    learnt = product("...mn,nl,...pl->...mp", operator, train, operator)
    return Prediction(jnp.tensordot(operator, y, 1, precision="highest"), test - mixed - mixed.mT + learnt)


class _Kernels(NamedTuple):
    nngp: Float[Array, "n m"]
    ntk: Float[Array, "n m"]


def _kernels(network: KernelFn | Sequence[int], **named: Any) -> _Kernels:
    """Both kernels of one or two arrays of inputs, named for messages, in the dtype of the inputs."""
    if not callable(network) and not _are_widths(network):
        raise ValueError(f"network is {network!r}; it takes a kernel function or a sequence of whole widths >= 1")
    inputs = {name: jnp.asarray(x) for name, x in named.items() if x is not None}
    _check_inputs(inputs)
    x1 = next(iter(inputs.values()))
    x2 = list(inputs.values())[1] if len(inputs) == 2 else None
    kernel_fn = network if callable(network) else mlp(len(network))
    kernels = kernel_fn(x1, x2, get=("nngp", "ntk"))
    dtype = jnp.result_type(*inputs.values())
    return _Kernels(kernels.nngp.astype(dtype), kernels.ntk.astype(dtype))


def _check_inputs(inputs: dict[str, Array]) -> None:
    """Raise ValueError unless all inputs are floating samples of one shape."""
    for name, x in inputs.items():
        if x.ndim < 2 or x.size == 0:
            raise ValueError(f"{name} has shape {x.shape}; it takes samples and at least one more axis, none empty")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {x.dtype}; it takes floating numbers")
    shapes = [x.shape[1:] for x in inputs.values()]
    if shapes[0] != shapes[-1]:
        raise ValueError(f"{' and '.join(inputs)} have samples of shapes {shapes}; they take one shape")


def _are_widths(network: Any) -> bool:
    """Whether it is a sequence of whole numbers >= 1."""
    # Bytes are a sequence of whole numbers, too.
    if not isinstance(network, Sequence) or isinstance(network, bytes | bytearray) or not network:
        return False
    return all(isinstance(width, int | np.integer) and width >= 1 for width in network)
