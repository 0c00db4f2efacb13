"""tangent/: how fast wide networks reach their limits: linear training, and the infinite-width kernel.

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
from theory.catalogue.tangent.cases import PIXELS, Rng, Weights, real_samples
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Rate

SAMPLES = 4
INPUTS = PIXELS // 4
"""Every second pixel of every second row; the rate is in the width of the hidden layers, not in the inputs."""
NUM_NETWORKS = 8
"""The number of networks over which a trial averages. It averages their distances, not their kernels."""
SINGLE = jnp.float32
"""The dtype of drawn networks: what is measured is at least a thousand times its rounding error."""


class Wide(struct.PyTreeNode):
    """Data for networks of any width.

    Attributes:
        x: Inputs [n, d], or [n, height, width, 1] for a convolutional network.
        y: Targets [n, 1].
        densities: The densities [2] of the masks of the second and the third layer.
        limit: Θ_∞ [n, n] of the claim's network, from neural-tangents; zero until the instance is prepared.
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
    x, y = real_samples(rng, dataset, SAMPLES, outputs=1)
    return _wide(rng, x[:, ::2, ::2].reshape(SAMPLES, -1), 2 * y - 1)


def _on_images(rng: Rng, dataset: Dataset) -> Wide:
    """The pixels of the case ``{data}`` as images with one channel."""
    x, y = real_samples(rng, dataset, SAMPLES, outputs=1)
    return _wide(rng, x[:, ::2, ::2, None], 2 * y - 1)


CASES = (Case("gaussian", _on_gaussian), Case("{data}", _on_real))
LIMITS = (*CASES, Case("conv-{data}", _on_images))
"""The cases of the kernel's limits; the cases of training are ``CASES``."""

Shapes = tuple[tuple[int, ...], ...]


def mlp_shapes(inputs: int, width: int, depth: int) -> Shapes:
    """The weight shapes [inputs, outputs] of an MLP with one output and ``depth`` layers."""
    widths = (inputs, *[width] * (depth - 1), 1)
    return tuple(zip(widths[:-1], widths[1:], strict=True))


def conv_shapes(x: Float[Array, "n height width 1"], channels: int) -> Shapes:
    """The weight shapes of a 3 x 3 convolution with that many channels, and of the dense layer that reads them."""
    _, height, width, inputs = x.shape
    return (3, 3, inputs, channels), (height * width * channels, 1)


def relu_shapes(x: Array, width: int) -> Shapes:
    """The weight shapes of the network of both kernel limits: two hidden layers, or one convolution on images."""
    return mlp_shapes(x.shape[1], width, 3) if x.ndim == 2 else conv_shapes(x, width)


def ntk_factors(shapes: Shapes) -> tuple[float, ...]:
    """The factor of the NTK parameterisation on each layer: 1/√(the number of inputs that one output sums)."""
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
    """The instance with the limit of the networks of both kernel limits."""
    network = infinite.mlp(3, weight_std=1.0) if wide.x.ndim == 2 else infinite.cnn(1, weight_std=1.0)
    return wide.replace(limit=infinite.ntk(network, wide.x))


def mean_distance(wide: Wide, key: Key, sample: Callable[[Key], Float[Array, "... n n"]]) -> Float[Array, "..."]:
    """The mean of ‖Θ − Θ_∞‖_F/‖Θ_∞‖_F over random networks, ``sample`` drawing the kernel of one."""

    def distance(key: Key) -> Float[Array, "..."]:
        return jnp.linalg.norm(sample(key) - wide.limit, axis=(-2, -1))

    return jnp.mean(jax.lax.map(distance, jax.random.split(key, NUM_NETWORKS)), axis=0) / jnp.linalg.norm(wide.limit)


HAS_LIMIT = {"Θ_∞ is not zero": lambda wide: jnp.any(wide.limit != 0)}
"""The hypothesis under which distances are relative to Θ_∞; it fails where all inputs are zero."""
WIDTHS = (32, 128, 512)
"""The widths of two hidden layers; the widest network has a quarter of a million weights."""


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
    title="The distance of a wide network's tangent kernel from its limit falls as one over the root of the width",
    statement=r"\mathbb{E}\,\|\Theta_n-\Theta_\infty\|=\Theta\big(n^{-1/2}\big)",
    sources=(Source("jacot2018ntk", "stated"),),
    kind=Rate(sizes=WIDTHS),
    cases=LIMITS,
    prepare=with_limit,
    hypotheses=HAS_LIMIT,
    trial=_infinite_width,
    mutants=("exponent −1",),
    batch=8,
    note=(
        "The networks have ReLU and two hidden layers of width n; on images a convolution with n channels and a dense "
        "layer. Distances are averaged, not kernels: the mean kernel is closer to the limit."
    ),
)


# --- tangent/random-pruning-limit


def _pruned_width(wide: Wide, key: Key, width: int) -> dict[str, Sides]:
    x = wide.x.astype(SINGLE)
    shapes = relu_shapes(wide.x, width)
    densities = jnp.concatenate([jnp.ones(1), wide.densities[: len(shapes) - 1]]).astype(SINGLE)
    plain = jnp.array(ntk_factors(shapes), SINGLE)
    rescale = 1 / jnp.sqrt(densities)
    ones = jnp.ones_like(densities)
    # Each variant has factors of the forward pass and factors of the weight values.
    variants = {
        "claim": (plain * rescale, ones),
        "no rescaling": (plain, ones),
        "α^(−1/2) in the weight values": (plain, rescale),
    }
    factors, values = (jnp.stack(each) for each in zip(*variants.values(), strict=True))

    def sample(key: Key) -> Float[Array, "variants n n"]:
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
    return {name: Sides(distance, jnp.asarray(-0.5)) for name, distance in zip(variants, distances, strict=True)}


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
    hypotheses=HAS_LIMIT,
    trial=_pruned_width,
    mutants=("no rescaling", "α^(−1/2) in the weight values"),
    batch=8,
    note=(
        "Every layer but the first is pruned, and Θ is over the kept raw weights. Without rescaling the limit is "
        "(Πα_l)Θ_∞. With the factor in the weights each layer's share of Θ_∞ is multiplied by its α_l. The networks "
        "are those of tangent/infinite-width; of the convolutional one the dense layer is pruned."
    ),
)


# --- tangent/finite-width

NUM_SEGMENTS = 16
SEGMENT_STEPS = 5
"""Training is compared after each segment of steps of size 1/(2λ_max), 80 steps in all."""
LEAST_RATIO = 0.1
"""The least λ_min/λ_max of Θ_∞: the slowest mode of the linearised network then ends at 0.95⁸⁰ < 2 % of its start."""


def with_smooth_limit(wide: Wide) -> Wide:
    """The instance with the limit of one hidden layer with erf."""
    return wide.replace(limit=infinite.ntk(infinite.mlp(2, activation="erf", weight_std=1.0), wide.x))


def with_relu_limit(wide: Wide) -> Wide:
    """The instance with the limit of one hidden layer with ReLU."""
    return wide.replace(limit=infinite.ntk(infinite.mlp(2, weight_std=1.0), wide.x))


def _largest_distance(
    wide: Wide, phi: Callable[[Array], Array], layers: Weights, factors: tuple[Any, ...], step: Array
) -> Float[Array, ""]:
    """The largest ‖f_real − f_lin‖ while both networks are trained."""
    apply = forward(phi, factors)
    models = apply, linearised.linearise(apply, layers)
    x = wide.x.astype(SINGLE)
    data = (x, with_step(wide.y, step).astype(SINGLE))

    def advance(both: tuple[Weights, Weights], _: None) -> tuple[tuple[Weights, Weights], Array]:
        real, linear = (
            train.fit(model, stepped_half_squares, start, data, optax.sgd(1.0), SEGMENT_STEPS)[0]
            for model, start in zip(models, both, strict=True)
        )
        return (real, linear), jnp.linalg.norm(models[0](real, x) - models[1](linear, x))

    return jnp.max(jax.lax.scan(advance, (layers, layers), length=NUM_SEGMENTS)[1])


def finite_width(phi: Callable[[Array], Array]) -> Callable[[Wide, Key, int], dict[str, Sides]]:
    """The trial for networks with that activation."""

    def trial(wide: Wide, key: Key, width: int) -> dict[str, Sides]:
        inputs = wide.x.shape[1]
        step = 0.5 / jnp.linalg.eigvalsh(wide.limit)[-1]
        shapes = mlp_shapes(inputs, width, 2)
        layers = draw_weights(key, shapes, SINGLE)
        first, last = ntk_factors(shapes)
        ntk = _largest_distance(wide, phi, layers, (first, last), step)
        mean_field = _largest_distance(wide, phi, layers, (first, last / width**0.5), step * width)
        return {"claim": Sides(ntk, jnp.asarray(-0.5)), "output over n": Sides(mean_field, jnp.asarray(-0.5))}

    return trial


def _training_ends(wide: Wide) -> Array:
    """Whether the slowest mode of the linearised network is trained within the steps."""
    spectrum = jnp.linalg.eigvalsh(wide.limit)
    return (spectrum[-1] > 0) & (spectrum[0] >= LEAST_RATIO * spectrum[-1])


FINITE_WIDTH = Claim(
    id="tangent/finite-width",
    title="Wide networks train like their linearisation",
    statement=r"\sup_t\|f_t-f_t^{\mathrm{lin}}\|=O\big(n^{-1/2}\big)",
    sources=(Source("lee2019wide", "stated"),),
    kind=Rate(sizes=(64, 256, 1024, 4096), relation="at most"),
    cases=CASES,
    prepare=with_smooth_limit,
    hypotheses={"λ_min(Θ_∞) ≥ λ_max(Θ_∞)/10 > 0, so that training ends": _training_ends},
    trial=finite_width(jax.scipy.special.erf),
    mutants=("output over n",),
    batch=8,
    note=(
        "The networks have erf activation and one hidden layer; one step size serves all widths, and optax trains "
        "both by gradient descent. The theorem asks for λ_min(Θ_∞) > 0. The supremum is over every fifth of 80 steps "
        "of size 1/(2λ_max(Θ_∞)), in which the slowest mode of an admissible instance loses 98 %. The rate is an upper "
        "one; the exponent is often steeper. When outputs are divided by n (mean-field scaling, with the step size "
        "multiplied by n), networks keep learning features at every width. There are only MLPs here, since a "
        "convolution evaluates its channels at every pixel, 16 times the work of a step."
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
        "The theorem asks for a smooth activation, so it says nothing here, and no verdict is expected. Steps and "
        "instances are those of tangent/finite-width."
    ),
)
