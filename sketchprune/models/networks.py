"""The networks, each as a function that describes it and a flax module that computes it."""

import itertools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune.models._layers import Features, Images, Model, pool
from sketchprune.models.patches import convolve_patches, patch_convolution, pool_patches

Pooling = Literal["average", "max"]
_VGG11_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


@checked
def linear(outputs: int = 10, *, bias: bool = True, ntk: bool = False) -> nn.Module:
    """One linear layer on the flattened input.

    Args:
        outputs: The number of outputs.
        bias: Whether it has biases.
        ntk: Whether it is in the NTK parameterisation.

    Returns:
        The module, for inputs [n, ...] and outputs [n, outputs].

    Example:
        >>> import jax
        >>> params = jax.eval_shape(linear().init, jax.random.key(0), jnp.ones((2, 8, 8, 1)))["params"]
        >>> [leaf.shape for leaf in jax.tree.leaves(params)]
        [(10,), (64, 10)]
    """
    return Mlp(widths=(outputs,), bias=bias, ntk=ntk)


@checked
def mlp(*widths: int, bias: bool = True, ntk: bool = False) -> nn.Module:
    """Dense layers on the flattened input.

    Args:
        *widths: The width of each layer, the number of outputs last.
        bias: Whether it has biases.
        ntk: Whether it is in the NTK parameterisation.

    Returns:
        The module, for inputs [n, ...] and outputs [n, last width].

    Raises:
        ValueError: No width.

    Example:
        >>> import jax
        >>> params = jax.eval_shape(mlp(128, 128, 10).init, jax.random.key(0), jnp.ones((1, 64)))["params"]
        >>> sum(leaf.size for leaf in jax.tree.leaves(params))
        26122
    """
    if not widths:
        raise ValueError("widths is (); it takes the width of each layer, the number of outputs last")
    _checks.whole("widths", widths, least=1)
    return Mlp(widths=widths, bias=bias, ntk=ntk)


@checked
def lenet(
    outputs: int = 10, *, bias: bool = True, ntk: bool = False, pooling: Pooling = "average", patches: bool = False
) -> nn.Module:
    """LeNet-5 with ReLU for its sigmoids: two 5x5 convolutions with pooling, then dense layers of 120 and 84.

    The first convolution pads 28x28 images to the 32x32 that the network was made for; both convolutions pad images
    that are smaller, down to 4x4.

    Args:
        outputs: The number of outputs.
        bias: Whether it has biases.
        ntk: Whether it is in the NTK parameterisation.
        pooling: "average" or "max".
        patches: Compute the same function of the same parameters by :func:`patch_convolution`, for training many
            networks at a time.

    Returns:
        The module, for images [n, h, w, c] and outputs [n, outputs].

    Example:
        >>> import jax
        >>> params = jax.eval_shape(lenet().init, jax.random.key(0), jnp.ones((1, 28, 28, 1)))["params"]
        >>> sum(leaf.size for leaf in jax.tree.leaves(params))
        61706
    """
    return LeNet(outputs=outputs, bias=bias, ntk=ntk, pooling=pooling, patches=patches)


@checked
def vgg11(
    outputs: int = 10, *, bias: bool = True, ntk: bool = False, norm: bool = False, pooling: Pooling = "max"
) -> nn.Module:
    """VGG-11 for small images: eight 3x3 convolutions and one dense layer, 9.2 million weights.

    Args:
        outputs: As for :func:`vgg16`.
        bias: As for :func:`vgg16`.
        ntk: As for :func:`vgg16`.
        norm: As for :func:`vgg16`.
        pooling: As for :func:`vgg16`.

    Returns:
        The module, for images [n, h, w, c] and outputs [n, outputs].
    """
    return Vgg(stages=_VGG11_STAGES, outputs=outputs, bias=bias, ntk=ntk, norm=norm, pooling=pooling)


@checked
def vgg16(
    outputs: int = 10, *, bias: bool = True, ntk: bool = False, norm: bool = False, pooling: Pooling = "max"
) -> nn.Module:
    """VGG-16 for small images: thirteen 3x3 convolutions and one dense layer, 14.7 million weights.

    Pooling halves the image after each of the five stages while it has more than one pixel a side, and what is left is
    averaged.

    Args:
        outputs: The number of outputs.
        bias: Whether it has biases.
        ntk: Whether it is in the NTK parameterisation.
        norm: Whether batch normalisation follows each convolution; see :func:`initial`.
        pooling: "average" or "max".

    Returns:
        The module, for images [n, h, w, c] and outputs [n, outputs].

    Example:
        >>> import jax
        >>> params = jax.eval_shape(vgg16(bias=False).init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))["params"]
        >>> sum(leaf.size for leaf in jax.tree.leaves(params)) - 512 * 10
        14710464
    """
    return Vgg(stages=_VGG16_STAGES, outputs=outputs, bias=bias, ntk=ntk, norm=norm, pooling=pooling)


@checked
def resnet20(
    outputs: int = 10, *, bias: bool = True, ntk: bool = False, norm: bool = True, width: int = 16
) -> nn.Module:
    """ResNet-20 for small images: nine blocks of two 3x3 convolutions, 0.27 million weights.

    With ``width=32`` it is the WideResNet-20 of the pruning literature, 1.07 million weights.

    Shortcuts have no parameters: where a block halves the image they take every second pixel and fill the new channels
    with zeros. The branch beside a shortcut pads one pixel on every side, so that its filters are centred on the pixels
    that the shortcut takes. Convolutions have biases only without batch normalisation, which has its own.

    Args:
        outputs: The number of outputs.
        bias: Whether it has biases.
        ntk: Whether it is in the NTK parameterisation.
        norm: Whether batch normalisation follows each convolution; see :func:`initial`.
        width: The channels of the first three blocks; the next three have twice, the last three four times as many.

    Returns:
        The module, for images [n, h, w, c] and outputs [n, outputs].

    Example:
        >>> import jax
        >>> params = jax.eval_shape(resnet20().init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))["params"]
        >>> sum(leaf.size for leaf in jax.tree.leaves(params))
        269722
    """
    _checks.whole("width", width, least=1)
    return ResNet20(outputs=outputs, bias=bias, ntk=ntk, norm=norm, width=width)


@checked
def patch_net(*widths: int, bias: bool = True, ntk: bool = False) -> nn.Module:
    """A small convolutional network made to be trained many at a time: see :func:`patch_convolution`.

    Args:
        *widths: The width of each 3x3 convolution, which average pooling by two follows, and the number of outputs of
            the dense layer at the end.
        bias: Whether it has biases.
        ntk: Whether it is in the NTK parameterisation.

    Returns:
        The module, for images [n, h, w, c] and outputs [n, last width].

    Raises:
        ValueError: Fewer than two widths.

    Example:
        >>> import jax
        >>> params = jax.eval_shape(patch_net(8, 16, 10).init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))["params"]
        >>> sum(leaf.size for leaf in jax.tree.leaves(params))
        1898
    """
    if len(widths) < 2:
        raise ValueError(f"widths is {widths}; it takes the width of each convolution and the number of outputs")
    return PatchNet(widths=widths, bias=bias, ntk=ntk)


class Mlp(Model):
    """See :func:`mlp`."""

    widths: tuple[int, ...] = (10,)

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "n k"]:
        """The outputs for a batch of inputs."""
        x = x.reshape(len(x), -1)
        *hidden, outputs = self.widths
        for width in hidden:
            x = nn.relu(self.dense(x, width))
        return self.dense(x, outputs, gain=1.0)


class LeNet(Model):
    """See :func:`lenet`."""

    outputs: int = 10
    pooling: Pooling = "average"
    patches: bool = False

    @nn.compact
    def __call__(self, x: Images) -> Float[Array, "n k"]:
        """The outputs for a batch of inputs."""
        side = min(x.shape[1:3])
        if side < 4:
            raise ValueError(
                f"x has images of {x.shape[1]}x{x.shape[2]} pixels; LeNet takes 4x4 or more, to halve them twice"
            )
        pooled, convolve = (pool_patches, convolve_patches) if self.patches else (pool, None)
        x = nn.relu(self.conv(x, 6, 5, padding="SAME" if side < 32 else "VALID", convolve=convolve))
        x = pooled(x, self.pooling)
        x = nn.relu(self.conv(x, 16, 5, padding="SAME" if side < 28 else "VALID", convolve=convolve))
        x = pooled(x, self.pooling)
        x = x.reshape(len(x), -1)
        for width in (120, 84):
            x = nn.relu(self.dense(x, width))
        return self.dense(x, self.outputs, gain=1.0)


class Vgg(Model):
    """See :func:`vgg16`."""

    stages: tuple[tuple[int, ...], ...] = _VGG16_STAGES
    outputs: int = 10
    norm: bool = False
    pooling: Pooling = "max"

    @nn.compact
    def __call__(self, x: Images, *, measure: bool = False) -> Float[Array, "n k"]:
        """The outputs for a batch of inputs."""
        for widths in self.stages:
            for width in widths:
                x = nn.relu(self.normalised(self.conv(x, width, 3, norm=self.norm), self.norm, measure))
            if min(x.shape[1:3]) > 1:
                x = pool(x, self.pooling)
        return self.dense(x.mean(axis=(1, 2)), self.outputs, gain=1.0)


class ResNet20(Model):
    """See :func:`resnet20`."""

    outputs: int = 10
    norm: bool = True
    width: int = 16

    @nn.compact
    def __call__(self, x: Images, *, measure: bool = False) -> Float[Array, "n k"]:
        """The outputs for a batch of inputs."""

        def conv(x: Images, width: int, stride: int = 1) -> Float[Array, "n h1 w1 width"]:
            # "SAME" would pad (0, 1) where the stride is 2, and centre the filter beside the shortcut's pixel.
            padding = ((1, 1), (1, 1))
            convolved = self.conv(x, width, 3, stride=stride, padding=padding, norm=self.norm)
            return self.normalised(convolved, self.norm, measure)

        x = nn.relu(conv(x, self.width))
        for factor, block in itertools.product((1, 2, 4), range(3)):
            width, stride = factor * self.width, 2 if factor > 1 and block == 0 else 1
            branch = conv(nn.relu(conv(x, width, stride)), width)
            shortcut = jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, width - x.shape[-1])))
            x = nn.relu(shortcut + branch)
        return self.dense(x.mean(axis=(1, 2)), self.outputs, gain=1.0)


class PatchNet(Model):
    """See :func:`patch_net`. Its parameters are shaped like those of flax's layers."""

    widths: tuple[int, ...] = (8, 10)

    @nn.compact
    def __call__(self, x: Images) -> Float[Array, "n k"]:
        """The outputs for a batch of inputs."""
        *hidden, outputs = self.widths
        for layer, width in enumerate(hidden):
            shape = (3, 3, x.shape[-1], width)
            kernel = self.param(f"kernel_{layer}", self.weights(2.0), shape, jnp.float32)
            x = patch_convolution(self.scaled(x, 9 * x.shape[-1], 2.0), kernel)
            if self.bias:
                x = x + self.param(f"bias_{layer}", nn.initializers.zeros, (width,), jnp.float32)
            x = nn.relu(x) if min(x.shape[1:3]) < 2 else pool_patches(nn.relu(x), "average")
        return self.dense(x.reshape(len(x), -1), outputs, gain=1.0)
