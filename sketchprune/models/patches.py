"""Convolution and pooling by slices, reshapes and matrix products, which are fast inside a scan and under vmap."""

import itertools
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune._boundary import checked


@checked
def patch_convolution(
    x: Float[Array | np.ndarray, "n h w c"],
    kernel: Float[Array | np.ndarray, "a b c k"],
    *,
    padding: Literal["SAME", "VALID"] = "SAME",
) -> Float[Array, "n h1 w1 k"]:
    """Convolution as shifted slices side by side and one matrix product.

    y[n, i, j, k] = Σ_abc x[n, i + a, j + b, c] kernel[a, b, c, k], x being padded before.

    Equal to flax's convolution with the same kernel and padding, but 5 to 30 times faster on a CPU inside a scan, and
    under vmap over kernels it stays one product.

    Args:
        x: Images [n, h, w, c].
        kernel: [a, b, c, k].
        padding: "SAME" pads with zeros to the size of x; "VALID" does not pad.

    Returns:
        Images [n, h, w, k], or [n, h − a + 1, w − b + 1, k] without padding.

    Raises:
        ValueError: "SAME" with an even a or b.

    Cost:
        n h w a b c k multiply-adds, and a copy of x for each entry a, b of the kernel.

    Example:
        >>> patch_convolution(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
        [[4.0, 4.0], [4.0, 4.0]]
    """
    rows, columns, _, outputs = kernel.shape
    if padding == "SAME" and not (rows % 2 and columns % 2):
        raise ValueError(f"kernel has {rows} rows and {columns} columns; it takes odd numbers, to keep the size of x")
    above, left = (rows // 2, columns // 2) if padding == "SAME" else (0, 0)
    padded = jnp.pad(x, ((0, 0), (above, above), (left, left), (0, 0)))
    height = padded.shape[1] - rows + 1
    width = padded.shape[2] - columns + 1
    shifts = itertools.product(range(rows), range(columns))
    patches = jnp.concatenate([padded[:, i : i + height, j : j + width] for i, j in shifts], axis=-1)
    return patches @ kernel.reshape(-1, outputs)


def convolve_patches(x: Array | np.ndarray, kernel: Array, strides: Any, padding: Any, **options: Any) -> Array:
    """What flax's layer takes as ``conv_general_dilated``: its convolution by :func:`patch_convolution`.

    Args:
        x: Images [n, h, w, c].
        kernel: [a, b, c, k].
        strides: Of ones.
        padding: "SAME" or "VALID".
        **options: What else flax hands on; dilations and the number of groups are ones.

    Returns:
        Images, as :func:`patch_convolution`.

    Raises:
        ValueError: Strides, dilations or groups.
    """
    for name in ("strides", "lhs_dilation", "rhs_dilation", "feature_group_count"):
        value = {"strides": strides, **options}.get(name, 1)
        if np.any(np.asarray(value) != 1):
            raise ValueError(f"{name} is {value}; it takes ones: patches have no strides, dilations or groups")
    return patch_convolution(x, kernel, padding=padding)


def pool_patches(x: Float[Array | np.ndarray, "n h w c"], pooling: str) -> Float[Array, "n h1 w1 c"]:
    """Pooling by two as a reshape, since a window reduction is slow inside a scan too; an odd last pixel is dropped.

    Args:
        x: Images [n, h, w, c].
        pooling: "average"; anything else takes the maximum.

    Returns:
        Images [n, h // 2, w // 2, c].
    """
    samples, height, width, channels = x.shape
    height = height // 2
    width = width // 2
    blocks = x[:, : 2 * height, : 2 * width].reshape(samples, height, 2, width, 2, channels)
    return blocks.mean(axis=(2, 4)) if pooling == "average" else blocks.max(axis=(2, 4))
