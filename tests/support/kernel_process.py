"""One of two processes that compute a kernel: `python kernel_process.py FOLDER COORDINATOR COUNT ID`.

Prints as JSON what it is told where the processes do not make the same call or one of them fails, and how many blocks
it computed.
"""

import errno
import json
import sys
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from sketchprune import kernels
from sketchprune.kernels import _npy
from sketchprune.search import mesh

SCRIPT = Path(__file__)


def apply(params, x):
    return jnp.tanh(x @ params[0]) @ params[1]


def arguments():
    """The network, its parameters and 11 samples; and a mask."""
    rng = np.random.default_rng(3)
    params = [rng.normal(size=shape) for shape in ((4, 6), (6, 3))]
    mask = [rng.uniform(size=each.shape) for each in params]
    return (apply, params, rng.normal(size=(11, 4))), mask


def run(out, *, scale=1.0, block_size=2, **options):
    """The kernel in `out`, and how many blocks of how many this process computed."""
    (apply, params, x), mask = arguments()
    reported = []

    def progress(done, total):
        reported.append((done, total))

    options = {"mask": mask, "block_size": block_size, "progress": progress} | options
    return kernels.ntk_on_host(apply, params, scale * x, out=out, **options), reported


def told(call):
    """What is said of a call that fails."""
    try:
        call()
        return "computed"
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def forbidden(*_):
    raise PermissionError(errno.EPERM, "Operation not permitted")


def broken_pipe(*_):
    raise BrokenPipeError(errno.EPIPE, "Broken pipe")


if __name__ == "__main__":
    folder, coordinator, count, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    mesh.start(coordinator, count, number, timeout=240)
    out = folder / "kernel.npy"
    of_process_0 = Mesh(np.array([device for device in jax.devices() if device.process_index == 0]), ("any",))
    messages = [
        told(lambda: run(out, scale=1.0 + number, block_size=2 + number)),
        told(lambda: run(None)),
        told(lambda: run(folder / "none" / "kernel.npy")),
        told(lambda: run(out, block_size=2 - 2 * number)),
    ]
    with mock.patch.object(_npy, "_write", full_disk if number == 1 else _npy._write):
        messages.append(told(lambda: run(out)))
    with mock.patch.object(_npy.os, "replace", forbidden):  # which process 0 calls
        messages.append(told(lambda: run(out)))
    messages.append(told(lambda: run(out, progress=broken_pipe if number == 1 else None)))
    multihost_utils.sync_global_devices("all calls have ended")
    left = sorted(path.name for path in folder.iterdir())
    multihost_utils.sync_global_devices("no call has begun")
    kernel, reported = run(out)
    _, of_one = run(folder / "second.npy", mesh=of_process_0)
    print(json.dumps([messages, left, reported, len(of_one), float(kernel.sum())]), flush=True)
