"""A data set: labelled samples on the host."""

import numpy as np
from flax import struct
from jaxtyping import Array, Float


@struct.dataclass(eq=False)
class Dataset:
    """Labelled samples on the host: NumPy arrays, so that loading runs no JAX operation.

    A pytree of its two arrays. Two data sets are equal when they are the same object.

    Attributes:
        x: Samples [n, d], images flattened.
        y: Labels [n], 0 to num_classes − 1.
        name: What reports call it.
        num_classes: The number of classes.
        image_shape: (height, width, channels) of the images, or () for plain features.
    """

    x: np.ndarray | Array
    y: np.ndarray | Array
    name: str = struct.field(pytree_node=False)
    num_classes: int = struct.field(pytree_node=False)
    image_shape: tuple[int, ...] = struct.field(pytree_node=False, default=())

    @property
    def images(self) -> Float[Array | np.ndarray, "n h w c"]:
        """The samples as images. Raises ValueError when they are not images."""
        if not self.image_shape:
            raise ValueError(f"{self.name} holds plain features; images takes a data set of images")
        return self.x.reshape(len(self.x), *self.image_shape)
