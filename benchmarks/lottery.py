"""Random masks, embeddings and subset sums by the thousand, each against a loop in NumPy over single ones.

Random masks do not come near what is required on a CPU: they are random words and little else, and JAX's counter-based
generator makes fewer of them a second there than NumPy's does. The table shows that: the rate at which jax.random alone
makes as many words, what part of it our masks reach, and how far that rate itself is from the loop.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from benchmarks._record import OURS, Row, Target
from benchmarks._timing import Prepared, in_turns, prepared
from sketchprune import laws, lottery
from sketchprune.types import Key

REQUIRED = 50
"""How many times faster than the loop random masks and embeddings have to be."""
ROUNDS = 5
"""What is compared runs in turns, so that a machine which others use too slows all of it alike."""
TARGET, COPIES, DENSITY, BATCH = (4, 3, 2), (12, 6, 1), 0.6, 4096
"""Widths of the target that is embedded, copies of its units in the source, and how many sources go together."""
LARGE, LARGE_BATCH = (784, 300, 100, 10), 16
"""The widths of a network with many weights."""
PEER, WORDS = "NumPy loop", "random words"
ITEMS, INSTANCES, EPSILON = 16, 4096, 2.0**-6

Shapes = tuple[tuple[int, int], ...]


def source_widths() -> tuple[int, ...]:
    """The widths of the source into which the target is embedded."""
    return (TARGET[0], *(units * copies for units, copies in zip(TARGET, COPIES, strict=True)))


def shapes_of(widths: Sequence[int]) -> Shapes:
    """The layers of a multilayer perceptron."""
    return tuple(itertools.pairwise(widths))


# --- random masks


def masks(key: Key, *, shapes: Shapes, batch: int) -> tuple[Array, ...]:
    """Erdős–Rényi masks, ``batch`` of them."""
    law = laws.ErdosRenyi((DENSITY,) * len(shapes), shapes)
    return jax.vmap(law.sample)(jax.random.split(key, batch))


def random_words(key: Key, *, number: int) -> Array:
    """The random words that masks of that many weights are made of, one for each weight, and nothing else."""
    return jax.random.bits(key, (number,))


def masks_in_numpy(rng: np.random.Generator, shapes: Shapes) -> list[np.ndarray]:
    """One mask."""
    return [rng.random(shape, np.float32) < DENSITY for shape in shapes]


# --- embeddings


def target() -> tuple[lottery.Dense, ...]:
    """A small target without zero weights."""
    rng = np.random.default_rng(0)
    return tuple(
        lottery.Dense(rng.standard_normal(shape, np.float32), rng.standard_normal(shape[1]).astype(np.float32))
        for shape in shapes_of(TARGET)
    )


def embeddings(masks: tuple[Array, ...]) -> lottery.Embedding:
    """The target inside each of the masks."""
    return jax.vmap(functools.partial(lottery.embed, target()))(masks)


def embedding_in_numpy(layers: Sequence[lottery.Dense], masks: Sequence[np.ndarray]) -> tuple[list[np.ndarray], bool]:
    """One embedding: kernels of the source, and whether every output is computed.

    Layer by layer, with the edges of all copies at once: about as fast as NumPy gets without batches.
    """
    inputs = layers[0].kernel.shape[0]
    copies = masks[0].shape[1] // inputs
    unit = np.arange(masks[0].shape[1]) // copies
    hosts = masks[0] & (unit == np.arange(inputs)[:, None])
    kernels, live = [hosts.astype(np.float32)], hosts.any(0).reshape(inputs, copies)
    for (kernel, _), mask in zip(layers, masks[1:], strict=True):
        before, units = kernel.shape
        edges = mask.reshape(before, live.shape[1], units, -1) & live[:, :, None, None]
        found = edges.any(1)
        served = (found | (kernel == 0)[:, :, None]).all(0)
        chosen = np.zeros_like(edges)
        np.put_along_axis(chosen, edges.argmax(1)[:, None], found[:, None], 1)
        kernels.append((chosen & served) * kernel[:, None, :, None])
        live = served
    return kernels, bool(live.all())


# --- subset sums


def sums_in_numpy(items: np.ndarray) -> np.ndarray:
    """The sums of all subsets of a few items, sorted."""
    sums = np.zeros(1, items.dtype)
    for item in items:
        sums = np.concatenate([sums, sums + item])
    return np.sort(sums)


def nearest_in_numpy(items: np.ndarray, wanted: float) -> float:
    """The least error of a subset sum, by meeting in the middle."""
    half = len(items) // 2
    low, high = sums_in_numpy(items[:half]), sums_in_numpy(items[half:])
    place = np.searchsorted(low, wanted - high)
    below, above = low[np.maximum(place - 1, 0)], low[np.minimum(place, len(low) - 1)]
    return float(min(abs(wanted - high - below).min(), abs(wanted - high - above).min()))


def hitting_in_numpy(items: np.ndarray) -> int:
    """How many items are needed, one by one, until every point of [−½, ½] is within ε of a subset sum."""
    sums = np.zeros(1, items.dtype)
    for number in range(len(items) + 1):
        ordered = np.sort(sums)
        ends = np.concatenate([ordered[:1] - 5, ordered, ordered[-1:] + 5])
        middle = np.clip((ends[:-1] + ends[1:]) / 2, -0.5, 0.5)
        if np.minimum(middle - ends[:-1], ends[1:] - middle).max() <= EPSILON:
            return number
        if number < len(items):
            sums = np.concatenate([sums, sums + items[number]])
    return len(items) + 1


# --- the comparisons


class Comparison(NamedTuple):
    """What is compared.

    Attributes:
        what: what is counted.
        ours: the library's program.
        made: how many one call of it makes.
        loop: makes ``looped`` of them, one after the other, in NumPy.
        looped: how many.
        required: how many times faster ours has to be; None where nothing is required.
        least: a part of the work that no program of jax's can do without; None where none is known.
    """

    what: str
    ours: Prepared
    made: int
    loop: Callable[[], Any]
    looped: int
    required: int | None
    least: Prepared | None = None


def comparisons() -> list[Comparison]:
    """All comparisons."""
    rng, key = np.random.default_rng(0), jax.random.key(0)
    small, large, layers = shapes_of(source_widths()), shapes_of(LARGE), target()
    made = jax.jit(functools.partial(masks, shapes=small, batch=BATCH))(key)
    some = [[np.asarray(layer[i]) for layer in made] for i in range(200)]
    items = rng.uniform(-1, 1, (INSTANCES, ITEMS)).astype(np.float32)
    wanted = rng.uniform(-0.5, 0.5, (INSTANCES, 1)).astype(np.float32)
    each = 200

    def every(function: Callable[..., Any], *lists: Any) -> Callable[[], Any]:
        return lambda: [function(*arguments) for arguments in zip(*lists, strict=True)]

    def masked(shapes: Shapes, batch: int) -> Prepared:
        return prepared(functools.partial(masks, shapes=shapes, batch=batch), key)

    def words(shapes: Shapes, batch: int) -> Prepared:
        return prepared(functools.partial(random_words, number=batch * weights(shapes)), key)

    hitting = functools.partial(lottery.hitting_numbers, epsilons=[EPSILON])
    return [
        Comparison(
            f"a mask of {weights(small):,} weights",
            masked(small, BATCH),
            BATCH,
            lambda: [masks_in_numpy(rng, small) for _ in range(each)],
            each,
            REQUIRED,
            words(small, BATCH),
        ),
        Comparison(
            f"a mask of {weights(large):,} weights",
            masked(large, LARGE_BATCH),
            LARGE_BATCH,
            lambda: [masks_in_numpy(rng, large) for _ in range(8)],
            8,
            None,
            words(large, LARGE_BATCH),
        ),
        Comparison(
            "an embedding",
            prepared(embeddings, made),
            BATCH,
            every(functools.partial(embedding_in_numpy, layers), some),
            each,
            REQUIRED,
        ),
        Comparison(
            f"a nearest subset, n = {ITEMS}",
            prepared(lottery.nearest_subset, items, wanted),
            INSTANCES,
            every(nearest_in_numpy, items[:each], wanted[:each, 0]),
            each,
            None,
        ),
        Comparison(
            f"a hitting number, n = {ITEMS}",
            prepared(hitting, items),
            INSTANCES,
            every(hitting_in_numpy, items[:each]),
            each,
            None,
        ),
    ]


def weights(shapes: Shapes) -> int:
    """How many weights the layers have."""
    return sum(inputs * units for inputs, units in shapes)


def check() -> None:
    """Both ways find the same."""
    rng, layers = np.random.default_rng(1), target()
    made = jax.jit(functools.partial(masks, shapes=shapes_of(source_widths()), batch=16))(jax.random.key(1))
    found = jax.jit(embeddings)(made)
    for i in range(16):
        kernels, complete = embedding_in_numpy(layers, [np.asarray(layer[i]) for layer in made])
        assert complete == bool(found.complete[i])
        for kernel, layer in zip(kernels, found.network, strict=True):
            np.testing.assert_allclose(kernel.reshape(layer.kernel[i].shape), layer.kernel[i], rtol=1e-6)
    items = rng.uniform(-1, 1, (8, ITEMS)).astype(np.float32)
    nearest = lottery.nearest_subset(items, np.full((8, 1), 0.3, np.float32)).error[:, 0]
    np.testing.assert_allclose([nearest_in_numpy(row, 0.3) for row in items], nearest, atol=1e-6)
    hit = lottery.hitting_numbers(items, [EPSILON])[:, 0]
    np.testing.assert_array_equal([hitting_in_numpy(row) for row in items], hit)


def rows() -> Iterator[Row]:
    """Each comparison: by the library and by the loop, in turns with the random words alone."""
    check()
    for compared in comparisons():
        runs = {OURS: compared.ours.run, PEER: compared.loop}
        if compared.least is not None:
            runs[WORDS] = compared.least.run
        timings = in_turns(runs, rounds=ROUNDS)
        ours, loop = timings[OURS], timings[PEER]
        share = None if compared.least is None else 1 / ours.over(timings[WORDS])
        yield Row(
            compared.what,
            seconds=ours.seconds / compared.made,
            compile_s=compared.ours.compile_s,
            roofline=share,
            roof="" if share is None else "random words",
            memory_mib=compared.ours.peak_mib,
        )
        ratio = loop.over(ours) * compared.made / compared.looped
        target = None if compared.required is None else Target("ratio", least=compared.required)
        note = "" if share is None or target is None else f"the words alone are {ratio / share:.1f}x"
        yield Row(compared.what, PEER, loop.seconds / compared.looped, ratio=ratio, target=target, note=note)
