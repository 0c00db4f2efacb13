"""Where a search runs: one axis of masks over all devices of all processes.

A search in one process needs none of this. Several processes call :func:`start` before JAX touches a device; from then
on each of them makes the same calls with the same arguments.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

from sketchprune._boundary import checked
from sketchprune._names import own_names
from sketchprune._processes import allgather_text as allgather_text
from sketchprune._processes import broadcast_int as broadcast_int
from sketchprune._processes import call_on_process_0 as call_on_process_0
from sketchprune.search import _cluster
from sketchprune.search._lifeline import Lifeline
from sketchprune.search._rendezvous import rendezvous

__dir__ = own_names(__name__)


@checked
def over(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with one axis, "masks", over devices.

    Args:
        devices: JAX devices; by default all devices of all processes.

    Returns:
        The mesh, for the argument ``mesh`` of :func:`sketchprune.search.best`.

    Example:
        >>> dict(over(jax.devices()[:1]).shape)
        {'masks': 1}
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("masks",), axis_types=(AxisType.Auto,), devices=devices)


@checked
def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: int | float = 60.0,
    on_lost: Callable[[int], None] | None = None,
) -> Callable[[], None]:
    """Join this process to the others, so that the devices of all of them become one set.

    Call it before anything that touches a device. Without arguments they are read from the environment of Slurm's srun
    or Open MPI's mpirun; in any other environment ``jax.distributed.initialize`` reads them itself, as on a TPU pod.

    Where the arguments are known, the processes first meet over plain TCP. A process that does not come is then a
    TimeoutError, where JAX's own start would abort the interpreter.

    Args:
        coordinator: "host:port" of process 0.
        num_processes: how many processes there are.
        process_id: which of them this is, from 0 on.
        timeout: seconds to wait for the others.
        on_lost: called, in a thread, with the id of a process that ends without having called what this returns.
            Without it JAX aborts the others after a minute or more.

    Returns:
        A function to call when the work is done, before the process ends.

    Raises:
        TimeoutError: naming the processes that did not come in time.
        ValueError: for arguments that do not go together, and without arguments in an environment that says nothing.
    """
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise ValueError(
            f"coordinator, num_processes and process_id are {coordinator}, {num_processes} and {process_id}; "
            "it takes all of them, or none where the cluster's environment has them"
        )
    if not any(given) and (launched := _cluster.launched_process(os.environ)):
        coordinator, num_processes, process_id = launched
    connections: dict[int, socket.socket] = {}
    if coordinator is not None and num_processes is not None and process_id is not None:
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f"process_id is {process_id} of num_processes {num_processes}; it takes 0 to num_processes - 1"
            )
        connections = rendezvous(coordinator, num_processes, process_id, timeout=timeout)
    # JAX's preemption service would take SIGTERM for itself, and the process would not end.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            local_device_ids=_cluster.local_device_ids(os.environ, _cluster.visible_devices(os.environ)),
            cluster_detection_method="deactivate" if coordinator else None,
            initialization_timeout=int(timeout) + 1,
        )
    except (ValueError, RuntimeError) as error:
        hint = "; without arguments it takes the environment of Slurm, Open MPI or a TPU pod" if not coordinator else ""
        raise ValueError(f"the processes cannot be joined: {str(error).rstrip('.')}{hint}") from None
    # CPU devices of several processes can only exchange data through a library of collective operations.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if on_lost is not None:
        return Lifeline(connections, on_lost).close
    for connection in connections.values():
        connection.close()
    return lambda: None


@checked
def replicated(mesh: Mesh, value: Shaped[Array | np.ndarray, "..."]) -> Shaped[Array, "..."]:
    """The same array on all devices of a mesh.

    Args:
        mesh: the devices.
        value: an array of this process, the same in every process; an array of typed keys stays one.

    Returns:
        The array, fully replicated.
    """
    sharding = NamedSharding(mesh, PartitionSpec())
    if not mesh.is_multi_process:
        return jax.device_put(value, sharding)
    if jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key):
        implementation = jax.random.key_impl(value)
        return jax.random.wrap_key_data(replicated(mesh, jax.random.key_data(value)), impl=implementation)
    local = np.asarray(value)
    return jax.make_array_from_callback(local.shape, sharding, lambda index: local[index])
