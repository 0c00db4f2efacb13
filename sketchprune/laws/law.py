"""What a law of masks is: the contract that every law keeps."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, PyTree

from sketchprune.laws.items import Items
from sketchprune.types import Key, Mask


@runtime_checkable
class Law(Protocol):
    """A law of random masks.

    A law is a record of arrays (``flax.struct``), so that it crosses jit, vmap and grad. Its numbers are checked by the
    methods, wherever they are known. Where it makes sense a law also has

    - ``proportional(sizes, keep, *, binary=False)``, a class method: the law in proportion to sizes that keeps ``keep``
      items;
    - ``training_bound(x, y)``: a bound on the expected error after training the kept columns.

    :func:`sketchprune.testing.check_law` checks that an object keeps this contract.
    """

    def sample(self, key: Key) -> Mask:
        """One mask, a pure function of the key."""
        ...

    def inclusion(self) -> PyTree:
        """P(m_i ≠ 0), shaped like a mask."""
        ...

    def error(self, items: Items) -> Float[Array, ""]:
        """E‖Σ(m_i − 1)B_i‖², exactly."""
        ...

    def outcomes(self) -> tuple[Mask, Float[Array, "outcomes"]]:
        """Every mask, on a leading axis, and its probability. ValueError where there are too many."""
        ...
