"""One process of a search: `python search_process.py FOLDER [COORDINATOR COUNT ID]`.

Prints as JSON what it is told where several processes do not make the same call, and what it found.
"""

import functools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sketchprune import laws, search
from sketchprune.search import mesh

SCRIPT = Path(__file__)
MASKS = 20_017
BATCH = 2048


def run(checkpoint, *, num_masks=MASKS, seed=7, scale=1.0, **options):
    """The search that tests compare: small, so that most of its time goes into batches and checkpoints."""
    objective, law = problem(scale)
    options = {"num_best": 5, "batch": BATCH} | options
    return search.best(objective, law, num_masks, key=jax.random.key(seed), checkpoint=checkpoint, **options)


@functools.cache
def problem(scale):
    """The objective and the law, the same objects at each call, so that searches share their programs."""
    rng = np.random.default_rng(5)
    x, w = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((9, 12), 12))
    return search.linear_error(scale * x, w), laws.Multinomial(jnp.full(12, 1 / 12, jnp.float32), 4)


def plain(result):
    """All of a result but its masks and times, as JSON holds it."""
    return {
        name: np.asarray(value).tolist()
        for name, value in vars(result).items()
        if name not in ("masks", "seconds", "rate")
    }


@functools.cache
def alone():
    """What one process finds on one device."""
    return plain(run(None, mesh=mesh.over(jax.devices()[:1])))


def launch(*arguments, devices, **variables):
    """A Python process with this number of devices; arguments as `python` takes them."""
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def slurm(number, port, *, node="localhost"):
    """What srun tells the first or second of two processes on one node; its own choice of a port may be taken."""
    return {
        "SLURM_JOB_ID": "4711", "SLURM_STEP_NODELIST": node, "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number), "JAX_COORDINATOR_PORT": str(port),
    }  # fmt: skip


def mistakes(number, folder):
    """What process `number` is told where the processes do not search for the same."""
    for change in (
        {"seed": 7 + number},
        {"scale": 1.0 + number},
        {"num_masks": 10**4 + number, "batch": 2048 * (1 + number)},
        {"checkpoint": (folder, None)[number]},
        {"mesh": mesh.over(jax.devices()[:1])},
    ):
        try:
            run(**{"checkpoint": None} | change)
            yield "found"
        except ValueError as error:
            yield str(error)


if __name__ == "__main__":
    folder, *others = sys.argv[1:]
    if others == ["--patient"]:
        # To be interrupted after its first batch, when no checkpoint is due yet.
        def wait(_):
            print("first batch done", flush=True)
            time.sleep(60)

        run(folder, progress=wait)
    told = []
    if others:
        mesh.start(others[0], int(others[1]), int(others[2]), timeout=240)
        told = list(mistakes(int(others[2]), folder))
    # A process alone is there to be killed, so it saves after every batch.
    found = run(folder, checkpoint_seconds=60.0 if others else 0.0)
    print(json.dumps([told, plain(found)]), flush=True)
