"""One process of a search: `python search_process.py FOLDER [COORDINATOR COUNT ID]`.

Prints as JSON what it is told where the processes do not make the same call, if there are several, and what it found."""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from sketchprune import laws, search
from sketchprune.search import mesh

MASKS = 20_017
BATCH = 2048


def run(checkpoint, *, num_masks=MASKS, seed=7, scale=1.0, **options):
    """The search that tests compare: small, so that most of its time goes into batches and checkpoints."""
    rng = np.random.default_rng(5)
    x, w = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((9, 12), 12))
    law = laws.Multinomial(jnp.full(12, 1 / 12, jnp.float32), 4)
    objective = search.linear_error(scale * x, w)
    options = {"num_best": 5, "batch": BATCH} | options
    return search.best(objective, law, num_masks, key=jax.random.key(seed), checkpoint=checkpoint, **options)


def plain(result):
    """All of a result but its masks and times, as JSON holds it."""
    return {
        name: np.asarray(value).tolist()
        for name, value in vars(result).items()
        if name not in ("masks", "seconds", "rate")
    }


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
