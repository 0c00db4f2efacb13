"""The libraries that benchmarks compare with, which are no dependencies of the project."""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from benchmarks._record import Row, Target


class Torch(NamedTuple):
    """PyTorch, on the kind of device that JAX computes on.

    Attributes:
        module: the module ``torch``.
        device: "cuda", or "cpu".
    """

    module: Any
    device: str

    def named(self, way: str) -> str:
        """What a row of it is measured by.

        Args:
            way: what is done in PyTorch.
        """
        return f"{way}, {self.device}"

    def tensor(self, values: Any) -> Any:
        """A tensor on the device.

        Args:
            values: an array, or numbers.
        """
        return self.module.tensor(values, device=self.device)

    def waiting(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """A function that returns when the device has done its work: on a GPU PyTorch's calls return before.

        Args:
            run: starts the work.
        """
        return functools.partial(_wait, self.module, run) if self.device == "cuda" else run


def _wait(module: Any, run: Callable[[], Any]) -> Any:
    """What the function returns, when the GPU has finished."""
    result = run()
    module.cuda.synchronize()
    return result


def torch() -> Torch | None:
    """PyTorch, on a GPU where both JAX and PyTorch have one; None where it cannot be imported."""
    try:
        module = importlib.import_module("torch")
    except ImportError:
        return None
    on_gpu = jax.default_backend() == "gpu" and module.cuda.is_available()
    return Torch(module, "cuda" if on_gpu else "cpu")


def absent(what: str, by: str, target: Target | None = None) -> Row:
    """The row of a peer that cannot be imported: its target is not measured.

    Args:
        what: the thing that it would have done.
        by: the peer.
        target: what was asked.
    """
    return Row(what, by, target=target, note="cannot be imported")
