"""What several processes of one run tell each other. In a run of one process all of it is immediate."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sketchprune._boundary import checked


@checked
def broadcast_int(number: int) -> int:
    """The number that process 0 passes, below 2^31. Every process has to call this."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


@checked
def allgather_text(text: str) -> list[str]:
    """The texts of all processes, by process id. Every process has to call this."""
    if jax.process_count() == 1:
        return [text]
    encoded = np.frombuffer(text.encode(), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.int32(len(encoded))))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(encoded)] = encoded
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]


@checked
def call_on_process_0(function: Callable[[], Any]) -> Any:
    """What ``function()`` returns in process 0, which alone calls it. Every process has to call this.

    Args:
        function: returns a value that JSON can hold.

    Returns:
        The value as JSON keeps it, in every process.

    Raises:
        OSError, ValueError: when ``function`` raises in process 0; see :func:`raised_in_every_process`.
    """
    answer = ""
    with raised_in_every_process():
        if jax.process_index() == 0:
            answer = json.dumps(function())
    return json.loads(allgather_text(answer)[0])


@contextlib.contextmanager
def raised_in_every_process() -> Iterator[None]:
    """Let all processes raise where one does, so that none waits for it. Every process has to enter and leave it.

    What raises in this block raises in its own process as it is. Interrupts are not told to the others.

    Raises:
        OSError: in processes whose own block went well, when another one raised such an error.
        ValueError: in these processes, when it raised any other.
    """
    raised = None
    try:
        yield
    except Exception as error:
        raised = error
    told = "" if raised is None else json.dumps([isinstance(raised, OSError), str(raised)])
    others = allgather_text(told)
    if raised is not None:
        raise raised
    for number, text in enumerate(others):
        if text:
            of_system, message = json.loads(text)
            raise (OSError if of_system else ValueError)(f"{message} (in process {number})")


def check_same_in_every_process(arguments: Mapping[str, Any], differ: str) -> None:
    """Refuse arguments that are not the same in every process; all of them raise. Every process has to call this.

    Args:
        arguments: by name, as JSON can hold them.
        differ: what the processes do when they differ, such as "search for different things".

    Raises:
        ValueError: naming what differs.
    """
    if jax.process_count() == 1:
        return
    first, *others = map(json.loads, allgather_text(json.dumps(dict(arguments))))
    for number, other in enumerate(others, 1):
        if differing := [name for name in first if first[name] != other.get(name)]:
            listed = "; ".join(
                f"{name}: {first[name]} in process 0, {other.get(name)} in process {number}" for name in differing
            )
            raise ValueError(f"the processes {differ} ({listed}); each takes the same arguments")
