"""Descriptions of infinitely wide networks: MLPs and CNNs as kernel functions of neural-tangents."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.kernels.infinite.compatibility import neural_tangents
from sketchprune.types import Inputs

KernelFn = Callable[..., Any]
"""``kernel_fn(x1, x2, get=...)`` as neural-tangents has it: what `mlp` and `cnn` return."""
Activation = Literal["relu", "erf", "gelu", "linear"]
_STAX_ACTIVATIONS = {"relu": "Relu", "erf": "Erf", "gelu": "Gelu", "linear": "Identity"}
"""The name of each activation in neural_tangents.stax."""


@checked
def mlp(
    depth: int,
    *,
    activation: Activation = "relu",
    weight_std: float = 2**0.5,
    output_std: float = 1.0,
    bias_std: float = 0.0,
) -> KernelFn:
    """The infinitely wide MLP with ``depth`` layers of weights, for `ntk`, `nngp` and `predict`.

    depth = 1 is the linear model σ_w/√d w·x + σ_b β; depth = L has L − 1 hidden layers and L − 1 activations.

    By default it is the limit of ``models.mlp(..., bias=False, ntk=True)``: σ_w² is 2 where a ReLU follows and 1 at the
    output. Inputs with more axes than [n, d] are flattened. σ_b = 0 is a network without biases, not one with biases at
    zero: those would be trained, and add to the NTK.

    Args:
        depth: The number of layers with weights, at least 1.
        activation: `jax.nn.relu`, `jax.scipy.special.erf`, `jax.nn.gelu` with approximate=False, or none ("linear").
        weight_std: σ_w > 0 of every layer but the last.
        output_std: σ_w > 0 of the last layer, which no activation follows.
        bias_std: σ_b >= 0, the same in every layer.

    Returns:
        The kernel function, one for equal arguments.

    Raises:
        ValueError: Arguments out of range.

    Source:
        jacot2018ntk; tangent/infinite-width.

    Example:
        >>> import jax.numpy as jnp
        >>> from sketchprune.kernels.infinite import ntk
        >>> ntk(mlp(1), jnp.array([[1.0, 3.0], [2.0, 0.0]])).tolist()  # x·x'/d
        [[5.0, 1.0], [1.0, 2.0]]
    """
    _checks.whole("depth", depth, least=1)
    return _kernel_fn(_Network(0, depth, 1, 1, "flatten", *_layer_law(activation, weight_std, output_std, bias_std)))


@checked
def cnn(
    depth: int,
    *,
    filter_size: int = 3,
    pool: int = 1,
    head: Literal["flatten", "mean"] = "flatten",
    activation: Activation = "relu",
    weight_std: float = 2**0.5,
    output_std: float = 1.0,
    bias_std: float = 0.0,
) -> KernelFn:
    """The CNN with infinitely many channels and ``depth`` convolutions, for `ntk`, `nngp` and `predict`.

    A convolution is square, of stride 1, and zero-padded to the size of its input ("SAME"). After each come the
    activation and the average over tiles. The head makes one vector of the image, and one dense layer reads it.

    Any other network of neural-tangents can take the place of this one:
    ``ntk(neural_tangents().stax.serial(...)[2], x)``.

    Args:
        depth: The number of convolutions, at least 1.
        filter_size: The side of a filter, at least 1.
        pool: The side of a tile; 1 is no pooling. What does not fill a tile is dropped.
        head: Flatten the image, or take its mean.
        activation: As for `mlp`.
        weight_std: As for `mlp`.
        output_std: As for `mlp`, of the dense layer.
        bias_std: As for `mlp`.

    Returns:
        The kernel function of images [n, height, width, channels], one for equal arguments. It raises ValueError
        for images of which the pooling leaves no tile.

    Raises:
        ValueError: Arguments out of range.

    Cost:
        Of a kernel, with pooling or the mean: the covariances of all pairs of pixels, n² (height · width)² numbers
        at the first layer; otherwise n² height · width. ``neural_tangents().batch`` computes a kernel in blocks of
        samples.

    Source:
        jacot2018ntk; tangent/infinite-width.

    Example:
        >>> import jax.numpy as jnp
        >>> from sketchprune.kernels.infinite import ntk
        >>> image = jnp.ones((1, 2, 2, 1))
        >>> ntk(cnn(1, filter_size=1, activation="linear", weight_std=1.0), image).tolist()  # 1 for each of two layers
        [[2.0]]
    """
    _checks.whole("depth", depth, least=1)
    _checks.whole("filter_size", filter_size, least=1)
    _checks.whole("pool", pool, least=1)
    if head not in ("flatten", "mean"):
        raise ValueError(f"head is {head!r}; it takes 'flatten' or 'mean'")
    return _kernel_fn(
        _Network(depth, 1, filter_size, pool, head, *_layer_law(activation, weight_std, output_std, bias_std))
    )


class _Network(NamedTuple):
    """What `mlp` and `cnn` describe; equal descriptions share one compiled kernel function."""

    convolutions: int
    dense: int
    filter_size: int
    pool: int
    head: str
    activation: str
    weight_std: float
    output_std: float
    bias_std: float


@functools.cache
def _kernel_fn(network: _Network) -> KernelFn:
    """The kernel function of a network, compiled once for each shape of inputs."""
    stax = neural_tangents().stax
    compiled = jax.jit(stax.serial(*_stax_layers(stax, network))[2], static_argnames="get")

    def kernel_fn(x1: Inputs, x2: Inputs | None = None, get: str | tuple[str, ...] = "ntk") -> Any:
        if network.convolutions:
            _check_images(network, x1)
        return compiled(x1, x2, get=get)

    return kernel_fn


def _stax_layers(stax: Any, network: _Network) -> list[Any]:
    """The network as layers of neural_tangents.stax."""
    hidden = {"W_std": network.weight_std, "b_std": network.bias_std or None}
    output = hidden | {"W_std": network.output_std}
    phi = getattr(stax, _STAX_ACTIVATIONS[network.activation])()
    side = (network.filter_size, network.filter_size)
    tile = (network.pool, network.pool)
    layers = []
    for _ in range(network.convolutions):
        layers += [stax.Conv(1, side, padding="SAME", **hidden), phi]
        if network.pool > 1:
            layers.append(stax.AvgPool(tile, strides=tile))
    layers.append(stax.GlobalAvgPool() if network.head == "mean" else stax.Flatten())
    for layer in range(network.dense):
        layers += [phi] * (layer > 0) + [stax.Dense(1, **(output if layer == network.dense - 1 else hidden))]
    return layers


def _check_images(network: _Network, x1: Inputs) -> None:
    """Raise ValueError unless the inputs are images of which the pooling leaves at least one tile."""
    if x1.ndim != 4:
        raise ValueError(f"x1 has shape {x1.shape}; a cnn takes images [n, height, width, channels]")
    height, width = x1.shape[1:3]
    if min(height, width) < int(network.pool) ** int(network.convolutions):
        raise ValueError(
            f"pool is {network.pool}, {network.convolutions} times; it takes tiles that fit in the images, "
            f"{height} x {width}"
        )


def _layer_law(
    activation: str, weight_std: float, output_std: float, bias_std: float
) -> tuple[str, float, float, float]:
    """The checked activation and standard deviations of every layer."""
    if activation not in _STAX_ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; it takes one of {', '.join(_STAX_ACTIVATIONS)}")
    _checks.positive("weight_std", weight_std)
    _checks.positive("output_std", output_std)
    if not 0 <= bias_std < float("inf"):
        raise ValueError(f"bias_std is {bias_std}; it takes a finite number >= 0")
    return activation, float(weight_std), float(output_std), float(bias_std)
