"""The networks of the pruning literature, as flax modules: ReLU between layers, samples independent.

They take flat features or images [n, height, width, channels] of 8x8 pixels and more: the digits' 8x8, MNIST's
28x28, CIFAR's 32x32. Two options are common to all. ``bias=False`` leaves out every bias, so that a ReLU network
is homogeneous in each layer and has a path kernel. ``ntk=True`` draws standard normal weights and puts their
scale √(g/fan-in) into the forward pass; without it the weights are drawn with that scale. The gain g is 2 where
a ReLU follows and 1 at the output, and biases start at zero, so both parameterisations are the same random
function.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune.types import ApplyFn, Key, Params

Pooling = Literal["average", "max"]


def linear(outputs: int = 10, *, bias: bool = True, ntk: bool = False) -> nn.Module:
    """One linear layer on the flattened input.

    >>> [weight.shape for weight in jax.tree.leaves(initial(linear(), jax.random.key(0), jnp.ones((2, 8, 8, 1)))[1])]
    [(10,), (64, 10)]
    """
    return Mlp(widths=(outputs,), bias=bias, ntk=ntk)


def mlp(*widths: int, bias: bool = True, ntk: bool = False) -> nn.Module:
    """Dense layers on the flattened input, of the given widths, the number of outputs last.

    ValueError without a width.

    >>> params = jax.eval_shape(mlp(128, 128, 10).init, jax.random.key(0), jnp.ones((1, 64)))["params"]
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    26122
    """
    if not widths:
        raise ValueError("widths is (); it takes the width of each layer, the number of outputs last")
    return Mlp(widths=widths, bias=bias, ntk=ntk)


def lenet(
    outputs: int = 10, *, bias: bool = True, ntk: bool = False, pooling: Pooling = "average", patches: bool = False
) -> nn.Module:
    """LeNet-5: two 5x5 convolutions with pooling, then dense layers of 120 and 84; ReLU for its sigmoids.

    The first convolution pads 28x28 images to the 32x32 that the network was made for; images smaller than
    that are padded in both. ``patches``: the same function of the same parameters by :func:`patch_convolution`,
    for training many at a time.

    >>> params = jax.eval_shape(lenet().init, jax.random.key(0), jnp.ones((1, 28, 28, 1)))["params"]
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    61706
    """
    return LeNet(outputs=outputs, bias=bias, ntk=ntk, pooling=pooling, patches=patches)


def vgg11(
    outputs: int = 10, *, bias: bool = True, ntk: bool = False, norm: bool = False, pooling: Pooling = "max"
) -> nn.Module:
    """VGG-11 for small images: eight 3x3 convolutions and one dense layer. As :func:`vgg16`."""
    return Vgg(stages=_VGG11, outputs=outputs, bias=bias, ntk=ntk, norm=norm, pooling=pooling)


def vgg16(
    outputs: int = 10, *, bias: bool = True, ntk: bool = False, norm: bool = False, pooling: Pooling = "max"
) -> nn.Module:
    """VGG-16 for small images: thirteen 3x3 convolutions and one dense layer, 14.7 million weights.

    Pooling halves the image after each of the five stages while it has more than one pixel a side, and what is
    left is averaged. ``norm`` puts batch normalisation after each convolution: see :func:`initial`.

    >>> params = jax.eval_shape(vgg16(bias=False).init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))["params"]
    >>> sum(leaf.size for leaf in jax.tree.leaves(params)) - 512 * 10
    14710464
    """
    return Vgg(stages=_VGG16, outputs=outputs, bias=bias, ntk=ntk, norm=norm, pooling=pooling)


def resnet20(outputs: int = 10, *, bias: bool = True, ntk: bool = False, norm: bool = True) -> nn.Module:
    """ResNet-20 for small images: nine blocks of two 3x3 convolutions, 0.27 million weights.

    Shortcuts have no parameters: where a block halves the image they take every second pixel and put zeros into
    the new channels. Convolutions have biases only without batch normalisation, which has its own.

    >>> params = jax.eval_shape(resnet20().init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))["params"]
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    269722
    """
    return ResNet20(outputs=outputs, bias=bias, ntk=ntk, norm=norm)


def patch_net(*widths: int, bias: bool = True, ntk: bool = False) -> nn.Module:
    """A small convolutional net made to be trained many at a time: see :func:`patch_convolution`.

    A 3x3 convolution and average pooling by two for each width but the last, which is the number of outputs of a
    dense layer. ValueError with fewer than two widths.

    >>> params = jax.eval_shape(patch_net(8, 16, 10).init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))["params"]
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    1898
    """
    if len(widths) < 2:
        raise ValueError(f"widths is {widths}; it takes one a convolution, at least one, and the number of outputs")
    return PatchNet(widths=widths, bias=bias, ntk=ntk)


def initial(model: nn.Module, key: Key, x: Float[Array, "n ..."]) -> tuple[ApplyFn, Params]:
    """``apply(params, x) -> [n, k]`` and random parameters, for inputs like x and in their dtype.

    Batch normalisation has running averages, closed over and never updated: mean 0 and variance 1, so that it is
    a scale (and shift) a channel and the network stays homogeneous; :func:`with_averages` takes those of data.
    Models without it give the same ``apply`` each time, so that what is compiled for it is used again. ValueError
    for an x of whole numbers, such as pixels.

    >>> apply, params = initial(mlp(4, 3), jax.random.key(0), jnp.ones((5, 2)))
    >>> apply(params, jnp.ones((5, 2))).shape
    (5, 3)
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x has dtype {x.dtype}; it takes floating numbers, whose dtype the parameters get")
    averages = dict(_variables(model, key, x[:1]))
    params = jax.tree.map(lambda leaf: leaf.astype(x.dtype), averages.pop("params"))
    return (_closed(model, averages) if averages else _bare(model)), params


def with_averages(model: nn.Module, params: Params, x: Float[Array, "n ..."]) -> ApplyFn:
    """``apply`` whose batch normalisation has the averages of the samples x at these parameters.

    Layer by layer: each layer's averages are those of inputs normalised before it. On x it is what training mode
    computes, yet each sample alone. ValueError for a model without batch normalisation. One forward pass.

    >>> model, x = Vgg(stages=((2,),), outputs=1, norm=True), jnp.ones((2, 2, 2, 1))
    >>> _, params = initial(model, jax.random.key(0), x)
    >>> with_averages(model, params, jnp.zeros((1, 2, 2, 1)))(params, 0 * x)
    Array([[0.],
           [0.]], dtype=float64)
    """
    if not getattr(model, "norm", False):
        raise ValueError(f"model is a {type(model).__name__} without batch normalisation; it takes one with norm=True")
    return _closed(model, _averages(model, params, x))


def patch_convolution(
    x: Float[Array, "n h w c"], kernel: Float[Array, "a b c k"], *, padding: Literal["SAME", "VALID"] = "SAME"
) -> Float[Array, "n h1 w1 k"]:
    """Convolution as shifted slices side by side and one matrix product.

    Equal to flax's with the same kernel and padding (zeros to the same size, or none), but 5 to 30 times faster on a
    CPU inside a scan, and under vmap over kernels it stays one product. ValueError for "SAME" with an even a or b.

    >>> patch_convolution(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0]
    Array([[4., 4.],
           [4., 4.]], dtype=float64)
    """
    rows, columns, _, outputs = kernel.shape
    if padding == "SAME" and not (rows % 2 and columns % 2):
        raise ValueError(f"kernel has {rows} rows and {columns} columns; it takes odd numbers, to keep the size of x")
    above, left = (rows // 2, columns // 2) if padding == "SAME" else (0, 0)
    padded = jnp.pad(x, ((0, 0), (above, above), (left, left), (0, 0)))
    height, width = padded.shape[1] - rows + 1, padded.shape[2] - columns + 1
    shifts = itertools.product(range(rows), range(columns))
    patches = jnp.concatenate([padded[:, i : i + height, j : j + width] for i, j in shifts], axis=-1)
    return patches @ kernel.reshape(-1, outputs)


def _convolve(x: Array, kernel: Array, strides: Any, padding: Any, **_: Any) -> Array:
    """What flax's layer asks of a convolution, for layers without strides and dilation."""
    return patch_convolution(x, kernel, padding=padding)


_VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class _Model(nn.Module):
    """What the networks share: the two options, and layers that heed them."""

    bias: bool = True
    ntk: bool = False

    def weights(self, gain: float) -> Callable[..., Array]:
        return nn.initializers.normal(1.0) if self.ntk else nn.initializers.variance_scaling(gain, "fan_in", "normal")

    def scaled(self, x: Array, fan_in: int, gain: float) -> Array:
        return x * (gain / fan_in) ** 0.5 if self.ntk else x

    def dense(self, x: Array, width: int, gain: float = 2.0) -> Array:
        layer = nn.Dense(width, use_bias=self.bias, kernel_init=self.weights(gain))
        return layer(self.scaled(x, x.shape[-1], gain))

    def conv(
        self,
        x: Array,
        width: int,
        size: int,
        *,
        stride: int = 1,
        padding: str = "SAME",
        norm: bool = False,
        convolve: Callable[..., Array] | None = None,
    ) -> Array:
        layer = nn.Conv(
            width,
            (size, size),
            stride,
            padding,
            use_bias=self.bias and not norm,
            kernel_init=self.weights(2.0),
            conv_general_dilated=convolve,
        )
        return layer(self.scaled(x, size**2 * x.shape[-1], 2.0))

    def normalised(self, x: Array, norm: bool, measure: bool) -> Array:
        # No momentum: measured averages are those of the batch alone.
        layer = functools.partial(nn.BatchNorm, use_running_average=not measure, momentum=0.0, use_bias=self.bias)
        return layer()(x) if norm else x


@functools.partial(jax.jit, static_argnums=0)
def _variables(model: nn.Module, key: Key, x: Array) -> Any:
    return model.init(key, x)


@functools.partial(jax.jit, static_argnums=0)
def _averages(model: nn.Module, params: Params, x: Array) -> Any:
    return model.apply({"params": params}, x, measure=True, mutable=["batch_stats"])[1]


def _closed(model: nn.Module, averages: Any) -> ApplyFn:
    def apply(params: Params, x: Array) -> Any:
        return model.apply({"params": params, **averages}, x)

    return apply


@functools.lru_cache
def _bare(model: nn.Module) -> ApplyFn:
    return _closed(model, {})


def _pooled(x: Float[Array, "n h w c"], pooling: Pooling) -> Float[Array, "n h/2 w/2 c"]:
    return {"average": nn.avg_pool, "max": nn.max_pool}[pooling](x, (2, 2), (2, 2))


class Mlp(_Model):
    """See :func:`mlp`."""

    widths: tuple[int, ...] = (10,)

    @nn.compact
    def __call__(self, x: Float[Array, "n ..."]) -> Float[Array, "n k"]:
        x = x.reshape(len(x), -1)
        *hidden, outputs = self.widths
        for width in hidden:
            x = nn.relu(self.dense(x, width))
        return self.dense(x, outputs, gain=1.0)


class LeNet(_Model):
    """See :func:`lenet`."""

    outputs: int = 10
    pooling: Pooling = "average"
    patches: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n k"]:
        side = min(x.shape[1:3])
        pooled, convolve = (_halved, _convolve) if self.patches else (_pooled, None)
        x = nn.relu(self.conv(x, 6, 5, padding="SAME" if side < 32 else "VALID", convolve=convolve))
        x = pooled(x, self.pooling)
        x = nn.relu(self.conv(x, 16, 5, padding="SAME" if side < 28 else "VALID", convolve=convolve))
        x = pooled(x, self.pooling)
        x = x.reshape(len(x), -1)
        for width in (120, 84):
            x = nn.relu(self.dense(x, width))
        return self.dense(x, self.outputs, gain=1.0)


class Vgg(_Model):
    """See :func:`vgg16`."""

    stages: tuple[tuple[int, ...], ...] = _VGG16
    outputs: int = 10
    norm: bool = False
    pooling: Pooling = "max"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, measure: bool = False) -> Float[Array, "n k"]:
        for widths in self.stages:
            for width in widths:
                x = nn.relu(self.normalised(self.conv(x, width, 3, norm=self.norm), self.norm, measure))
            if min(x.shape[1:3]) > 1:
                x = _pooled(x, self.pooling)
        return self.dense(x.mean(axis=(1, 2)), self.outputs, gain=1.0)


class ResNet20(_Model):
    """See :func:`resnet20`."""

    outputs: int = 10
    norm: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, measure: bool = False) -> Float[Array, "n k"]:
        def conv(x: Array, width: int, stride: int = 1) -> Array:
            return self.normalised(self.conv(x, width, 3, stride=stride, norm=self.norm), self.norm, measure)

        x = nn.relu(conv(x, 16))
        for width, block in itertools.product((16, 32, 64), range(3)):
            stride = 2 if width > 16 and block == 0 else 1
            branch = conv(nn.relu(conv(x, width, stride)), width)
            shortcut = jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, width - x.shape[-1])))
            x = nn.relu(shortcut + branch)
        return self.dense(x.mean(axis=(1, 2)), self.outputs, gain=1.0)


class PatchNet(_Model):
    """See :func:`patch_net`. Its parameters are those of flax's layers."""

    widths: tuple[int, ...] = (8, 10)

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n k"]:
        *hidden, outputs = self.widths
        for layer, width in enumerate(hidden):
            shape = (3, 3, x.shape[-1], width)
            kernel = self.param(f"kernel_{layer}", self.weights(2.0), shape, jnp.float32)
            x = patch_convolution(self.scaled(x, 9 * x.shape[-1], 2.0), kernel)
            if self.bias:
                x = x + self.param(f"bias_{layer}", nn.initializers.zeros, (width,), jnp.float32)
            x = nn.relu(x) if min(x.shape[1:3]) < 2 else _halved(nn.relu(x), "average")
        return self.dense(x.reshape(len(x), -1), outputs, gain=1.0)


def _halved(x: Float[Array, "n h w c"], pooling: Pooling) -> Float[Array, "n h/2 w/2 c"]:
    """Pooling by two, of blocks: a window reduction is slow inside a scan too."""
    samples, height, width, channels = x.shape
    height, width = height // 2, width // 2
    blocks = x[:, : 2 * height, : 2 * width].reshape(samples, height, 2, width, 2, channels)
    return blocks.mean(axis=(2, 4)) if pooling == "average" else blocks.max(axis=(2, 4))
