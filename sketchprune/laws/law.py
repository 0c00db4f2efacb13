"""What a law of masks is: one contract, and the table of the laws that keep it."""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, PyTree

from sketchprune.laws.determinantal import Determinantal
from sketchprune.laws.erdos_renyi import ErdosRenyi, ErdosRenyiCounts
from sketchprune.laws.fixed_size import FixedSize
from sketchprune.laws.items import Items
from sketchprune.laws.multinomial import Multinomial
from sketchprune.laws.poisson import Poisson
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


LAWS: dict[str, type] = {
    "multinomial": Multinomial,
    "poisson": Poisson,
    "fixed-size": FixedSize,
    "determinantal": Determinantal,
    "erdos-renyi": ErdosRenyi,
    "erdos-renyi-counts": ErdosRenyiCounts,
}
"""All laws, by the names that the commands know."""
