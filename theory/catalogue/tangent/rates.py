"""tangent/: how fast wide networks reach their limits, linear training and the infinite-width kernel.

Networks in the NTK parameterisation, h_{l+1} = W φ(h_l)/√n_l with standard normal W and h_1 = Wx/√d: multilayer
perceptrons, and for the limits of the kernel a convolution with a dense layer.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float

from sketchprune import kernels, train
from sketchprune.data import Dataset
from sketchprune.kernels import infinite, linearised
from sketchprune.types import Key
from theory.catalogue.squares import stepped_half_squares, with_step
from theory.catalogue.tangent.cases import PIXELS, Rng, Weights, real
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Rate

SAMPLES, INPUTS = 4, PIXELS // 4
"""Every second pixel of every second row: the rate is in the width of the hidden layers."""
ROUNDS = 8
"""Networks over which a trial averages; it averages their distances, not their kernels."""
SINGLE = jnp.float32
"""Drawn networks: what is measured is a thousand times its rounding error at least."""


class Wide(struct.PyTreeNode):
    """Data for networks of any width.

    Attributes:
        x: [n, d], or [n, height, width, 1] for a convolutional network.
        y: [n, 1].
        densities: [2], of the masks of the second and the third layer.
        limit: [n, n], Θ_∞ of the claim's network, from neural-tangents; zero until prepared.
    """

    x: Any
    y: Any
    densities: Any
    limit: Any


def _wide(rng: Rng, x: np.ndarray, y: np.ndarray) -> Wide:
    return Wide(x=x, y=y, densities=rng.uniform(0.5, 0.9, 2), limit=np.zeros((SAMPLES, SAMPLES)))


def _on_gaussian(rng: Rng, dataset: Dataset) -> Wide:
    return _wide(rng, rng.standard_normal((SAMPLES, INPUTS)), rng.standard_normal((SAMPLES, 1)))


def _on_real(rng: Rng, dataset: Dataset) -> Wide:
    x, y = real(rng, dataset, SAMPLES, outputs=1)
    return _wide(rng, x[:, ::2, ::2].reshape(SAMPLES, -1), 2 * y - 1)


def _on_images(rng: Rng, dataset: Dataset) -> Wide:
    """The same pixels as images with one channel."""
    x, y = real(rng, dataset, SAMPLES, outputs=1)
    return _wide(rng, x[:, ::2, ::2, None], 2 * y - 1)


CASES = (Case("gaussian", _on_gaussian), Case("{data}", _on_real))
LIMITS = (*CASES, Case("conv-{data}", _on_images))
"""Cases of the kernel's limits; those of training are ``CASES``."""

Shapes = tuple[tuple[int, ...], ...]


def mlp_shapes(inputs: int, width: int, depth: int) -> Shapes:
    """The weights of an MLP with one output and ``depth`` layers, [inputs, outputs] each."""
    widths = (inputs, *[width] * (depth - 1), 1)
    return tuple(zip(widths[:-1], widths[1:], strict=True))


def conv_shapes(x: Float[Array, "n height width 1"], channels: int) -> Shapes:
    """The weights of a convolution, 3 x 3 with that many channels, and of the dense layer that reads all of them."""
    _, height, width, inputs = x.shape
    return (3, 3, inputs, channels), (height * width * channels, 1)


def relu_shapes(x: Array, width: int) -> Shapes:
    """The network of the two kernel limits: two hidden layers of that width, or that many channels on images."""
    return mlp_shapes(x.shape[1], width, 3) if x.ndim == 2 else conv_shapes(x, width)


def ntk_factors(shapes: Shapes) -> tuple[float, ...]:
    """The NTK parameterisation's factor on each layer: one over the root of the inputs that an output sums."""
    return tuple(1 / math.prod(shape[:-1]) ** 0.5 for shape in shapes)


def draw_weights(key: Key, shapes: Shapes, dtype: Any) -> Weights:
    """Standard normal weights."""
    keys = jax.random.split(key, len(shapes))
    return tuple(jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True))


def forward(phi: Callable[[Array], Array], factors: tuple[Any, ...]) -> Callable[[Weights, Array], Array]:
    """The network with a fixed factor on each layer's weights; a layer of four axes is a convolution."""

    def apply(layers: Weights, x: Array) -> Array:
        for index, (layer, factor) in enumerate(zip(layers, factors, strict=True)):
            x = x if index == 0 else phi(x)
            if layer.ndim == 4:
                layout = ("NHWC", "HWIO", "NHWC")
                x = factor * jax.lax.conv_general_dilated(x, layer, (1, 1), "SAME", dimension_numbers=layout)
            else:
                x = factor * (x.reshape(len(x), -1) @ layer)
        return x

    return apply


def with_limit(wide: Wide) -> Wide:
    network = infinite.mlp(3, weight_std=1.0) if wide.x.ndim == 2 else infinite.cnn(1, weight_std=1.0)
    return wide.replace(limit=infinite.ntk(network, wide.x))


def mean_distance(wide: Wide, key: Key, sample: Callable[[Key], Float[Array, "... n n"]]) -> Float[Array, "..."]:
    """E‖Θ − Θ_∞‖_F over networks, relative to Θ_∞."""

    def distance(key: Key) -> Float[Array, "..."]:
        return jnp.linalg.norm(sample(key) - wide.limit, axis=(-2, -1))

    return jnp.mean(jax.lax.map(distance, jax.random.split(key, ROUNDS)), axis=0) / jnp.linalg.norm(wide.limit)


WIDTHS = (32, 128, 512)
"""Of two hidden layers: a network has a quarter of a million weights at the last."""


# --- tangent/infinite-width


def _infinite_width(wide: Wide, key: Key, width: int) -> dict[str, Sides]:
    x = wide.x.astype(SINGLE)
    shapes = relu_shapes(x, width)
    apply = forward(jax.nn.relu, ntk_factors(shapes))

    def sample(key: Key) -> Float[Array, "n n"]:
        return kernels.ntk(apply, draw_weights(key, shapes, x.dtype), x, trace_outputs=True)

    right = Sides(mean_distance(wide, key, sample), jnp.asarray(-0.5))
    return {"claim": right, "exponent −1": right._replace(theory=jnp.asarray(-1.0))}


INFINITE_WIDTH = Claim(
    id="tangent/infinite-width",
    title="The tangent kernel of a wide network is one over the root of its width from its limit",
    statement=r"\mathbb{E}\,\|\Theta_n-\Theta_\infty\|=\Theta\big(n^{-1/2}\big)",
    sources=(Source("jacot2018ntk", "stated"),),
    kind=Rate(sizes=WIDTHS),
    cases=LIMITS,
    prepare=with_limit,
    trial=_infinite_width,
    mutants=("exponent −1",),
    batch=8,
    note=(
        "ReLU, two hidden layers of width n; on images a convolution with n channels and a dense layer. Distances are "
        "averaged, not kernels: the mean kernel is nearer."
    ),
)


# --- tangent/random-pruning-limit


def _pruned_width(wide: Wide, key: Key, width: int) -> dict[str, Sides]:
    x, shapes = wide.x.astype(SINGLE), relu_shapes(wide.x, width)
    plain = jnp.array(ntk_factors(shapes), SINGLE)
    densities = jnp.concatenate([jnp.ones(1), wide.densities[: len(shapes) - 1]]).astype(SINGLE)
    rescale, ones = 1 / jnp.sqrt(densities), jnp.ones_like(densities)
    # The claim, no rescaling, and the factor in the weight values: factors of the forward pass, and of the weights.
    factors, values = jnp.stack([plain * rescale, plain, plain]), jnp.stack([ones, ones, rescale])

    def sample(key: Key) -> Float[Array, "3 n n"]:
        weights_key, *mask_keys = jax.random.split(key, 1 + len(shapes))
        raw = draw_weights(weights_key, shapes, x.dtype)
        kept = tuple(
            jax.random.bernoulli(key, density, layer.shape).astype(layer.dtype)
            for key, density, layer in zip(mask_keys, densities, raw, strict=True)
        )
        masked = jax.tree.map(jnp.multiply, raw, kept)

        def kernel(factors: Float[Array, " layers"], values: Float[Array, " layers"]) -> Float[Array, "n n"]:
            layers = tuple(value * layer for value, layer in zip(values, masked, strict=True))
            return kernels.ntk(forward(jax.nn.relu, tuple(factors)), layers, x, mask=kept, trace_outputs=True)

        return jax.vmap(kernel)(factors, values)

    distances = mean_distance(wide, key, sample)
    names = "claim", "no rescaling", "α^(−1/2) in the weight values"
    return {name: Sides(distance, jnp.asarray(-0.5)) for name, distance in zip(names, distances, strict=True)}


RANDOM_PRUNING_LIMIT = Claim(
    id="tangent/random-pruning-limit",
    title="A randomly pruned, rescaled wide network has the dense network's infinite-width kernel",
    statement=(
        r"h_{l+1}=\frac{1}{\sqrt{\alpha_ln_l}}(m_l\circ W_l)\,\phi(h_l):\quad"
        r"\mathbb{E}\,\|\Theta_{n}-\Theta_\infty\|=\Theta\big(n^{-1/2}\big)"
    ),
    sources=(Source("yang2023prunedntk", "stated"),),
    kind=Rate(sizes=WIDTHS),
    cases=LIMITS,
    prepare=with_limit,
    trial=_pruned_width,
    mutants=("no rescaling", "α^(−1/2) in the weight values"),
    batch=8,
    note=(
        "Every layer but the first is pruned; Θ is over the kept raw weights. Without rescaling the limit is "
        "(Πα_l)Θ_∞, and with the factor in the weights each layer's share of Θ_∞ is multiplied by its α_l. Networks as "
        "in tangent/infinite-width: of the convolutional one the dense layer is pruned."
    ),
)


# --- tangent/finite-width

SEGMENTS, SEGMENT = 16, 5
"""Training is looked at every ``SEGMENT`` steps, for 80 steps of size 1/(2λ_max)."""
SLOWEST = 0.1
"""λ_min/λ_max of Θ_∞ at least: the slowest mode of the linearised network then ends at 0.95⁸⁰ < 2 % of its start."""


def with_smooth_limit(wide: Wide) -> Wide:
    return wide.replace(limit=infinite.ntk(infinite.mlp(2, activation="erf", weight_std=1.0), wide.x))


def with_relu_limit(wide: Wide) -> Wide:
    return wide.replace(limit=infinite.ntk(infinite.mlp(2, weight_std=1.0), wide.x))


def _apart(
    wide: Wide, phi: Callable[[Array], Array], layers: Weights, factors: tuple[Any, ...], step: Array
) -> Float[Array, ""]:
    """sup_t ‖f_real − f_lin‖ along the training of both, over the horizon."""
    apply = forward(phi, factors)
    models = apply, linearised.linearise(apply, layers)
    x, data = wide.x.astype(SINGLE), (wide.x.astype(SINGLE), with_step(wide.y, step).astype(SINGLE))

    def advance(both: tuple[Weights, Weights], _: None) -> tuple[tuple[Weights, Weights], Array]:
        real, linear = (
            train.fit(model, stepped_half_squares, start, data, optax.sgd(1.0), SEGMENT)[0]
            for model, start in zip(models, both, strict=True)
        )
        return (real, linear), jnp.linalg.norm(models[0](real, x) - models[1](linear, x))

    return jnp.max(jax.lax.scan(advance, (layers, layers), length=SEGMENTS)[1])


def finite_width(phi: Callable[[Array], Array]) -> Callable[[Wide, Key, int], dict[str, Sides]]:
    """The trial for networks with that activation."""

    def trial(wide: Wide, key: Key, width: int) -> dict[str, Sides]:
        inputs = wide.x.shape[1]
        step = 0.5 / jnp.linalg.eigvalsh(wide.limit)[-1]
        shapes = mlp_shapes(inputs, width, 2)
        layers, (first, last) = draw_weights(key, shapes, SINGLE), ntk_factors(shapes)
        ntk = _apart(wide, phi, layers, (first, last), step)
        mean_field = _apart(wide, phi, layers, (first, last / width**0.5), step * width)
        return {"claim": Sides(ntk, jnp.asarray(-0.5)), "output over n": Sides(mean_field, jnp.asarray(-0.5))}

    return trial


def _ends(wide: Wide) -> Array:
    spectrum = jnp.linalg.eigvalsh(wide.limit)
    return spectrum[0] >= SLOWEST * spectrum[-1]


FINITE_WIDTH = Claim(
    id="tangent/finite-width",
    title="Wide networks train like their linearisation",
    statement=r"\sup_t\|f_t-f_t^{\mathrm{lin}}\|=O\big(n^{-1/2}\big)",
    sources=(Source("lee2019wide", "stated"),),
    kind=Rate(sizes=(64, 256, 1024, 4096), relation="at most"),
    cases=CASES,
    prepare=with_smooth_limit,
    hypotheses={"λ_min(Θ_∞) ≥ λ_max(Θ_∞)/10, so that training ends": _ends},
    trial=finite_width(jax.scipy.special.erf),
    mutants=("output over n",),
    batch=8,
    note=(
        "erf activation, one hidden layer, one step size for all widths, optax gradient descent of both. The theorem "
        "asks for λ_min(Θ_∞) > 0; the supremum is over every fifth of 80 steps of size 1/(2λ_max(Θ_∞)), by which the "
        "slowest mode of an admissible instance has lost 98 %. The rate is an upper one and the exponent often "
        "steeper. Outputs divided by n (mean-field scaling, the step size multiplied by n) keep learning features at "
        "every width. MLPs only: a convolution evaluates its channels at every pixel, 16 times the work of a step."
    ),
)

FINITE_WIDTH_RELU = replace(
    FINITE_WIDTH,
    id="tangent/finite-width-relu",
    title="The same for ReLU, which is not smooth: an observation beside the theorem",
    prepare=with_relu_limit,
    trial=finite_width(jax.nn.relu),
    expected=None,
    note=(
        "The theorem asks for a smooth activation: it says nothing here, and nothing is expected. Horizon and "
        "instances as in tangent/finite-width."
    ),
)
