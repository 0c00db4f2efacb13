"""What the networks share: the two options that all of them have, and layers that follow these options."""

import functools
from collections.abc import Callable

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

Features = Float[Array | np.ndarray, "n ..."]
Images = Float[Array | np.ndarray, "n h w c"]


class Model(nn.Module):
    """A network with the options ``bias`` and ``ntk``."""

    bias: bool = True
    ntk: bool = False

    def weights(self, gain: float) -> Callable[..., Array]:
        """The law of the initial weights."""
        return nn.initializers.normal(1.0) if self.ntk else nn.initializers.variance_scaling(gain, "fan_in", "normal")

    def scaled(self, x: Features, fan_in: int, gain: float) -> Features:
        """The input of a layer, times the scale of its weights under ``ntk``."""
        return x * (gain / fan_in) ** 0.5 if self.ntk else x

    def dense(self, x: Features, width: int, gain: float = 2.0) -> Float[Array, "n width"]:
        """A dense layer; gain 2 where a ReLU follows."""
        layer = nn.Dense(width, use_bias=self.bias, kernel_init=self.weights(gain))
        return layer(self.scaled(x, x.shape[-1], gain))

    def conv(
        self,
        x: Images,
        width: int,
        size: int,
        *,
        stride: int = 1,
        padding: str | tuple[tuple[int, int], ...] = "SAME",
        norm: bool = False,
        convolve: Callable[..., Array] | None = None,
    ) -> Float[Array, "n h1 w1 width"]:
        """A square convolution before a ReLU; with ``norm`` without a bias, which the normalisation has."""
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

    def normalised(self, x: Float[Array, "n h w c"], norm: bool, measure: bool) -> Float[Array, "n h w c"]:
        """Batch normalisation if ``norm``, which with ``measure`` stores the averages of the batch."""
        # No momentum: measured averages are those of the batch alone.
        layer = functools.partial(nn.BatchNorm, use_running_average=not measure, momentum=0.0, use_bias=self.bias)
        return layer()(x) if norm else x


def pool(x: Images, pooling: str) -> Float[Array | np.ndarray, "n h1 w1 c"]:
    """Pooling by two, "average" or "max"."""
    return {"average": nn.avg_pool, "max": nn.max_pool}[pooling](x, (2, 2), (2, 2))
