"""Where a search runs: one axis of masks over all devices of all processes.

One process needs none of this. Several call :func:`start` before JAX touches a device, and from then on each makes
the same calls with the same arguments.
"""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

from sketchprune.search import _cluster
from sketchprune.search._rendezvous import rendezvous as rendezvous


def over(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with one axis, "masks", over the given devices, or over all devices of all processes.

    >>> dict(over(jax.devices()[:1]).shape)
    {'masks': 1}
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("masks",), axis_types=(AxisType.Auto,), devices=devices)


def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: float = 60.0,
) -> None:
    """Join this process to the others: all devices of all of them become one set.

    ``coordinator`` is "host:port" of process 0. They first meet over plain TCP, so that one which does not come is
    a TimeoutError, naming it, after ``timeout`` seconds; JAX's own start would abort the interpreter. Without
    arguments all three are what the environment says that Slurm's srun or Open MPI's mpirun has made; in another
    that ``jax.distributed.initialize`` can read, such as a TPU pod's, nothing but JAX's own start is made. To be
    called before anything that touches a device. ValueError for arguments that do not go together, and where the
    environment says nothing.
    """
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise ValueError(
            f"coordinator, num_processes and process_id are {coordinator}, {num_processes} and {process_id}; "
            "it takes all of them, or none where the cluster's environment has them"
        )
    if not any(given) and (place := _cluster.place(os.environ)):
        coordinator, num_processes, process_id = place
    if coordinator is not None and num_processes is not None and process_id is not None:
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f"process_id is {process_id} of num_processes {num_processes}; it takes 0 to num_processes - 1"
            )
        rendezvous(coordinator, num_processes, process_id, timeout=timeout)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, initialization_timeout=int(timeout) + 1)
    except (ValueError, RuntimeError) as error:
        hint = "; without arguments it takes the environment of Slurm, Open MPI or a TPU pod" if not coordinator else ""
        raise ValueError(f"the processes cannot be joined: {str(error).rstrip('.')}{hint}") from None
    # CPU devices of several processes can only talk through a library of collectives.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")


def replicated(mesh: Mesh, value: Shaped[Array | np.ndarray, "..."]) -> Shaped[Array, "..."]:
    """An array of this process, the same in every process, on all devices of a mesh. Typed keys stay keys."""
    sharding = NamedSharding(mesh, PartitionSpec())
    if mesh.is_multi_process:
        if jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key):
            implementation = jax.random.key_impl(value)
            return jax.random.wrap_key_data(replicated(mesh, jax.random.key_data(value)), impl=implementation)
        local = np.asarray(value)
        return jax.make_array_from_callback(local.shape, sharding, lambda index: local[index])
    return jax.device_put(value, sharding)


def agreed(number: int) -> int:
    """The number that process 0 has, below 2^31. Every process has to ask."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def texts(text: str) -> list[str]:
    """The text of every process, by process. Every process has to ask."""
    if jax.process_count() == 1:
        return [text]
    spoken = np.frombuffer(text.encode(), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.int32(len(spoken))))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(spoken)] = spoken
    everyone = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:size].tobytes().decode() for row, size in zip(everyone, sizes, strict=True)]


def agreed_text(text: str) -> str:
    """The text that process 0 has. Every process has to ask."""
    return texts(text)[0]


def answered(ask: Callable[[], Any]) -> Any:
    """What ``ask()`` returns in process 0, which alone calls it, as JSON keeps it; all raise its ValueError."""
    refused, answer = "", None
    if jax.process_index() == 0:
        try:
            answer = ask()
        except ValueError as error:
            refused = str(error)
    refused, answer = json.loads(agreed_text(json.dumps([refused, answer])))
    if refused:
        raise ValueError(refused)
    return answer
