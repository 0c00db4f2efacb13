"""What training inside a source mask returns: a network, and the mask that it uses."""

from flax import struct
from jaxtyping import PyTree


class Ticket(struct.PyTreeNode):
    """A network that uses part of a source mask.

    Attributes:
        params: the parameters; exactly zero outside ``mask``.
        mask: a boolean pytree shaped like the parameters, inside the source. Leaves that are never pruned
            (:func:`sketchprune.masks.prunable`) are as in the source.
        losses: before each step, on the batch of that step, in the order in which steps were taken.
    """

    params: PyTree
    mask: PyTree
    losses: PyTree
