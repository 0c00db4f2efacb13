"""A search that was killed or interrupted goes on as if it had not been; checkpoints of other searches are refused."""

import functools
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from sketchprune import search
from sketchprune.search import mesh
from sketchprune.search._traced import TracedFunction
from tests.support import search_process as example


def test_a_killed_search_goes_on(tmp_path):
    process = example.launch(example.SCRIPT, tmp_path, devices=1)
    deadline = time.monotonic() + 240
    while not (kept := saved(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert kept and max(saved(tmp_path)) < example.MASKS
    batches = []
    assert example.plain(example.run(tmp_path, progress=batches.append)) == example.alone()
    assert batches[0].done > kept[-1]
    assert batches[-1].done == example.MASKS and batches[-1].seconds_left == 0


def test_an_interrupted_search_goes_on(tmp_path):
    """What a real signal interrupts is kept, though no checkpoint was due."""
    process = example.launch("-u", example.SCRIPT, tmp_path, "--patient", devices=1)
    assert process.stdout.readline() == "first batch done\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    (kept,) = saved(tmp_path)
    assert 0 < kept < example.MASKS
    batches = []
    assert example.plain(example.run(tmp_path, progress=batches.append)) == example.alone()
    assert batches[0].done > kept


@pytest.mark.parametrize("folder", [str, epath.Path], ids=["text", "epath"])
def test_a_search_goes_on_to_more_masks(tmp_path, folder):
    """Bit for bit the result of one search, though each end falls into a tile of 256 masks."""
    place = folder(tmp_path / "checkpoint")
    for num_masks, kept in ((100, []), (3000, [2816]), (3001, [2816]), (9999, [9984])):
        found = example.run(place, num_masks=num_masks, checkpoint_seconds=0)
        assert found.num_masks == num_masks
        assert saved(tmp_path / "checkpoint")[-1:] == kept
    batches = []
    whole = example.run(place, progress=batches.append)
    assert example.plain(whole) == example.alone() and batches[0].done > 9984
    assert batches[-1].best == whole.values[0]
    with pytest.raises(ValueError, match=r"num_masks is 9999 with the checkpoint .* of 19968 masks; it takes no fewer"):
        example.run(place, num_masks=9999)


def test_a_place_that_cannot_be_reached_is_named(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(type(epath.Path("gs://bucket/folder")), "mkdir", missing)
    with pytest.raises(ValueError, match="checkpoint is gs://bucket/folder: Please install gcsfs .*; it takes"):
        example.run("gs://bucket/folder")


def test_an_interrupt_before_the_first_batch_keeps_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sketchprune.search._program.SearchProgram.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        example.run(tmp_path, mesh=mesh.over(jax.devices()[:1]))
    assert saved(tmp_path) == []


def saved(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []


def test_checkpoints_of_other_searches_are_refused(tmp_path):
    small = {"num_masks": 512, "batch": 256, "mesh": mesh.over(jax.devices()[:1])}
    example.run(tmp_path, **small)
    for change, message in (
        ({"seed": 8}, r"is of another search \(key: \[0, 7\] there, \[0, 8\] here\)"),
        ({"num_best": 3}, r"\(best: 5 there, 3 here\)"),
        ({"scale": 2.0}, r"\(data: \w+ there, \w+ here\)"),
    ):
        with pytest.raises(ValueError, match=message):
            example.run(tmp_path, **small | change)
    newest = tmp_path / str(max(saved(tmp_path)))
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\x00{")
    with pytest.raises(ValueError, match=f"checkpoint {newest} cannot be read .*; it takes one that a search wrote"):
        example.run(tmp_path, **small)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match=f"checkpoint is {file}: .*; it takes a folder that can be written"):
        example.run(file, **small)


def traced(function):
    return TracedFunction(function, jnp.zeros(3))


def test_laws_and_objectives_are_told_apart():
    shift = jnp.arange(3.0)

    @jax.jit
    def inner(x):
        return x + shift

    def same(x):
        return x + jnp.arange(3.0)

    base, other = traced(inner), 2 * shift
    assert base.data_checksum == traced(lambda x: x * shift).data_checksum
    assert base.data_checksum != traced(lambda x: x + other).data_checksum
    assert base.instructions_checksum != traced(jax.jit(lambda x: x * shift)).instructions_checksum
    relu = [traced(lambda x: jax.nn.relu(x)).instructions_checksum for _ in range(2)]
    assert relu[0] == relu[1] != traced(same).instructions_checksum
    key = jax.random.key(1)
    keyed = traced(lambda x: x * jax.random.normal(key))
    assert keyed.data_checksum != base.data_checksum
    found = keyed.instructions(keyed.constants, jnp.ones(3))
    np.testing.assert_array_equal(found, jax.random.normal(key) * jnp.ones(3))


def test_methods_of_one_object_are_traced_once():
    class Scaled:
        def __init__(self, factor):
            self.factor = factor
            self.traces = 0

        def __call__(self, x):
            self.traces += 1
            return self.factor * x

        method = __call__

    one, other = Scaled(2.0), Scaled(3.0)
    first, second = traced(one.method), traced(one.method)
    assert first.instructions == second.instructions and one.traces == 1
    assert traced(other.method).instructions != first.instructions and other.traces == 1


def test_checkpoints_know_nothing_of_callbacks(tmp_path):
    """Two objectives that differ in what Python does alone; printing changes no value."""

    @jax.jit
    def objective(mask):
        return jax.pure_callback(np.float32, jax.ShapeDtypeStruct((), jnp.float32), mask, vmap_method="sequential")

    law = functools.partial(jax.random.normal, shape=(), dtype=jnp.float32)
    one = {"num_best": 2, "mesh": mesh.over(jax.devices()[:1])}
    with pytest.raises(ValueError, match=f"checkpoint is {tmp_path} and objective calls back to Python"):
        search.best(objective, law, 256, key=jax.random.key(0), checkpoint=tmp_path, **one)
    assert search.best(objective, law, 256, key=jax.random.key(0), **one).num_masks == 256
    assert not traced(lambda x: jax.debug.callback(print, x) or x).calls_python
    assert traced(lambda x: jax.lax.map(objective, x)).calls_python
