"""Kernels larger than a device: blocks are computed on many devices and brought to the host."""

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from sketchprune import _checks
from sketchprune._boundary import checked
from sketchprune._checksums import checksum
from sketchprune._coupling import check_samples_apart
from sketchprune._processes import check_same_in_every_process, raised_in_every_process
from sketchprune._static import static
from sketchprune.kernels._blocks import Pair, Spans, block_pairs, cut
from sketchprune.kernels._network import check_inputs, mask_leaves, outputs_of
from sketchprune.kernels._npy import Write, new_npy
from sketchprune.kernels.empirical import compiled_ntk
from sketchprune.types import ApplyFn, Inputs, Mask, Params

_MAX_BLOCK = 2**26
"""Numbers in a block of the kernel: 256 MiB in float32."""
_BLOCKS_PER_DEVICE = 4
"""Blocks for each device, at least, if there are enough samples: so all devices have work."""


class _Problem(NamedTuple):
    """A kernel that is to be computed, and how it is cut into blocks.

    Attributes:
        apply: The network.
        params: Its parameters.
        masks: The mask of each leaf; see `MaskLeaves`.
        bounds: What is known of each; see `MaskLeaves`.
        left: The samples of the kernel's rows.
        right: The samples of its columns.
        symmetric: Whether both are the same, so that half of the blocks say all.
        trace_outputs: Whether the trace over the outputs is meant.
        rows: The blocks of the rows.
        columns: The blocks of the columns.
        shape: Of the kernel.
        dtype: Of its entries.
    """

    apply: ApplyFn
    params: Params
    masks: Sequence[Any]
    bounds: tuple[int | None, ...]
    left: np.ndarray
    right: np.ndarray
    symmetric: bool
    trace_outputs: bool
    rows: Spans
    columns: Spans
    shape: tuple[int, ...]
    dtype: np.dtype


@checked
def ntk_on_host(
    apply: ApplyFn,
    params: Params,
    x1: Inputs,
    x2: Inputs | None = None,
    *,
    mask: Mask | None = None,
    trace_outputs: bool = False,
    block_size: int | None = None,
    mesh: Mesh | None = None,
    out: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "n m k k"] | Float[np.ndarray, "n m"]:
    """The kernel of `ntk` as a NumPy array or a .npy file, computed in blocks by many devices.

    Θ[n, m, k, l] = Σ_i m_i ∂f_k(x1_n)/∂θ_i ∂f_l(x2_m)/∂θ_i.

    For kernels that no device can hold. Each device computes one block of samples with another at a time, and finished
    blocks go to the host while the next ones are computed. Equal to `ntk` to rounding, whatever the devices and the
    blocks.

    With several processes (see `search.mesh.start`), each makes this call with the same arguments and computes its
    share of the blocks. ``out`` is then needed, on a file system that all of them reach.

    An interrupted call keeps nothing. For very long calls compute strips, each in its own file: ``ntk_on_host(apply,
    params, x[a:b], x, …)``.

    Args:
        apply: ``apply(params, x) -> [N, K]``, samples one by one.
        params: The parameters, any pytree.
        x1: Samples [N, ...].
        x2: Samples [M, ...] of the same shape; ``x1`` by default, when half of the kernel is computed.
        mask: Booleans or floating numbers shaped like ``params``.
        trace_outputs: Return Σ_k Θ[n, m, k, k] instead.
        block_size: Samples on one side of a block; by default blocks of 256 MiB in float32, or smaller ones if each
            device would get fewer than about four.
        mesh: The devices, of any number of axes; by default all devices of all processes.
        out: A .npy file to write, in place of an array in memory. It appears when it is complete; until then its blocks
            are in a hidden file beside it, ``.NAME.….part``, which a process that is killed leaves behind. If two calls
            write one file, the later one to end replaces it.
        progress: ``progress(done, total)``, the blocks that this process has finished and all of its blocks.

    Returns:
        Θ as [N, M, K, K], or [N, M] with ``trace_outputs``, in the dtype of the outputs: an array in memory, or with
        ``out`` a read-only memory map of the file.

    Raises:
        ValueError: As for `ntk`; for traced arguments; for ``out`` that is None with several processes, cannot be made,
            or is for a kernel in bfloat16, which .npy files do not have; and for processes that compute different
            kernels. What one process refuses, all refuse.
        OSError: The file can be written no longer, such as on a full disk.

    Cost:
        Time: that of `ntk` over the number of devices, with the forward pass and the K pullbacks of a sample once for
            each block that it meets.

        Memory: 1 GiB in float32 and three blocks on each device; on the host three blocks for each of its devices, and
            the kernel where there is no ``out``.

        Measured with 10,000 images of Fashion-MNIST and an MLP 784-128-10, all pairs of outputs in a file of 40 GB: 73
        s of one CPU core in 7 minutes on a busy machine, and 0.9 GiB at most.

    Source:
        jacot2018ntk; checked by tangent/closed-form.

    Example:
        >>> x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
        >>> ntk_on_host(lambda w, x: x @ w, np.ones((2, 1), np.float32), x)[..., 0, 0].tolist()
        [[5.0, 11.0], [11.0, 25.0]]
    """
    devices = jax.devices() if mesh is None else list(mesh.devices.flat)
    with raised_in_every_process():
        problem = _problem(apply, params, x1, x2, mask, trace_outputs, block_size, len(devices))
    _check_processes(devices, out, block_size, trace_outputs, params=params, x1=x1, x2=x2, mask=mask)
    if out is None:
        kernel = np.empty(problem.shape, problem.dtype)
        _compute(problem, devices, functools.partial(_put, kernel), progress)
        return kernel
    with new_npy(Path(out), problem.shape, problem.dtype) as write:
        _compute(problem, devices, write, progress)
    return np.load(out, mmap_mode="r")


def _problem(
    apply: ApplyFn,
    params: Params,
    x1: Inputs,
    x2: Inputs | None,
    mask: Mask | None,
    trace_outputs: bool,
    block_size: int | None,
    devices: int,
) -> _Problem:
    """The kernel that is to be computed, once the arguments are checked, in blocks for this number of devices."""
    check_inputs(x1, x2)
    if block_size is not None:
        _checks.whole("block_size", block_size, least=1)
    _check_known(params=params, x1=x1, x2=x2, mask=mask)
    masks, bounds = mask_leaves(params, mask)
    check_samples_apart(apply, params, x1, x2)
    outputs = outputs_of(apply, params, x1)
    shape = (len(x1), len(x1 if x2 is None else x2), *([] if trace_outputs else 2 * [outputs.shape[1]]))
    size = _block_size(shape, devices, symmetric=x2 is None) if block_size is None else block_size
    return _Problem(
        apply=static(apply),
        params=params,
        masks=masks,
        bounds=bounds,
        left=np.asarray(x1),
        right=np.asarray(x1 if x2 is None else x2),
        symmetric=x2 is None,
        trace_outputs=trace_outputs,
        rows=cut(shape[0], size),
        columns=cut(shape[1], size),
        shape=shape,
        dtype=outputs.dtype,
    )


def _check_known(**arguments: Any) -> None:
    """Refuse what is traced: the host computes nothing inside a compiled program."""
    for name, tree in arguments.items():
        if any(map(_checks.traced, jax.tree.leaves(tree))):
            raise ValueError(f"{name} is traced; it takes known arrays, outside of jit, vmap and grad")


def _check_processes(
    devices: Sequence[Any],
    out: str | os.PathLike | None,
    block_size: int | None,
    trace_outputs: bool,
    **arrays: Any,
) -> None:
    """Several processes write into one file, and compute the same kernel."""
    if jax.process_count() == 1:
        return
    settings = {"block_size": block_size, "trace_outputs": trace_outputs, "devices": [device.id for device in devices]}
    checksums = {name: f"{checksum(array):08x}" for name, array in arrays.items()}
    check_same_in_every_process(checksums | settings | {"with out": out is not None}, "compute different kernels")
    if out is None:
        raise ValueError(f"out is None with {jax.process_count()} processes; it takes a file that all of them reach")


def _block_size(shape: tuple[int, ...], devices: int, *, symmetric: bool) -> int:
    """The most samples on one side of a block that fit, halved until there are blocks for all devices."""
    size = max(math.isqrt(_MAX_BLOCK // math.prod(shape[2:])), 1)
    while size > 1 and _count(shape, size, symmetric=symmetric) < _BLOCKS_PER_DEVICE * devices:
        size = math.ceil(min(size, max(shape[:2])) / 2)
    return size


def _count(shape: tuple[int, ...], size: int, *, symmetric: bool) -> int:
    """How many blocks of this size are computed."""
    rows, columns = math.ceil(shape[0] / size), math.ceil(shape[1] / size)
    return rows * (rows + 1) // 2 if symmetric else rows * columns


def _put(kernel: np.ndarray, values: np.ndarray, row: int, column: int) -> None:
    """Put a block into the kernel, its first entry at this row and column."""
    kernel[row : row + values.shape[0], column : column + values.shape[1]] = values


def _compute(
    problem: _Problem, devices: Sequence[Any], write: Write, progress: Callable[[int, int], None] | None
) -> None:
    """Compute and write the blocks of this process: in each group, which has one for each device, those of its own."""
    pairs = block_pairs(problem.rows, problem.columns, symmetric=problem.symmetric)
    groups = [pairs[start : start + len(devices)] for start in range(0, len(pairs), len(devices))]
    places = [place for place, device in enumerate(devices) if device.process_index == jax.process_index()]
    own = [[group[place] for place in places if place < len(group)] for group in groups]
    done, total = 0, sum(map(len, own))
    blocks = _computed(problem, [group for group in own if group], [devices[place] for place in places])
    for done, (pair, values) in enumerate(blocks, 1):
        _write_new(write, pair, values, symmetric=problem.symmetric)
        if progress is not None:
            progress(done, total)


def _computed(
    problem: _Problem, groups: Sequence[list[Pair]], devices: Sequence[Any]
) -> Iterator[tuple[Pair, np.ndarray]]:
    """Each pair with its block, on the host. Devices compute the next group while the host writes this one."""
    if not groups:
        return
    mesh = Mesh(np.array(devices), ("devices",))
    constants = jax.device_put((problem.params, problem.masks), NamedSharding(mesh, PartitionSpec()))
    begun = _begun(problem, constants, groups[0], mesh)
    for group, following in itertools.zip_longest(groups, groups[1:]):
        blocks = {shard.device: shard.data for shard in begun.addressable_shards}
        if following is not None:
            begun = _begun(problem, constants, following, mesh)
        for pair, device in zip(group, devices, strict=False):
            yield pair, np.asarray(blocks[device])[0]


def _begun(
    problem: _Problem, constants: tuple[Params, Sequence[Any]], group: Sequence[Pair], mesh: Mesh
) -> Float[Array, "devices n m ..."]:
    """The blocks of a group, one on each device, as they are computed; devices without a pair repeat the last one."""
    pairs = [*group, *[group[-1]] * (mesh.size - len(group))]
    x1 = np.stack([problem.left[pair.first : pair.first + problem.rows.size] for pair in pairs])
    x2 = np.stack([problem.right[pair.second : pair.second + problem.columns.size] for pair in pairs])
    spread = jax.device_put((x1, x2), NamedSharding(mesh, PartitionSpec("devices")))
    return _blocks(
        problem.apply, *constants, *spread, mesh=mesh, bounds=problem.bounds, trace_outputs=problem.trace_outputs
    )


@functools.partial(jax.jit, static_argnames=("apply", "mesh", "bounds", "trace_outputs"))
def _blocks(
    apply: ApplyFn,
    params: Params,
    masks: Sequence[Any],
    x1: Array,
    x2: Array,
    *,
    mesh: Mesh,
    bounds: tuple[int | None, ...],
    trace_outputs: bool,
) -> Float[Array, "devices n m ..."]:
    """A block of the kernel on each device, from samples [devices, n, ...] and [devices, m, ...]."""

    def block(params: Params, masks: Sequence[Any], x1: Array, x2: Array) -> Array:
        options = {"bounds": bounds, "trace_outputs": trace_outputs, "block_size": None}
        return compiled_ntk(apply, params, masks, x1[0], x2[0], **options)[None]

    same, one = PartitionSpec(), PartitionSpec("devices")
    spread = jax.shard_map(block, mesh=mesh, in_specs=(same, same, one, one), out_specs=one, check_vma=False)
    return spread(params, masks, x1, x2)


def _write_new(write: Write, pair: Pair, values: np.ndarray, *, symmetric: bool) -> None:
    """Write the part of a block that no other block has, and its mirror image where half of the kernel is computed."""
    row, column = int(pair.first_new), int(pair.second_new)
    values = values[row - int(pair.first) :, column - int(pair.second) :]
    write(values, row, column)
    if symmetric and row != column:
        write(values.transpose(1, 0, *range(2, values.ndim)[::-1]), column, row)
