"""Embeddings: equal to the target on real images, and exact about what is missing where they fail."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import data, lottery
from tests.support import without_type_checks

rng = np.random.default_rng(0)
DIGITS = data.load().x / 16.0
DENSITIES = (0.6, 0.5, 0.7)


def sparse_target(*widths, density=0.3, seed=1):
    rng = np.random.default_rng(seed)
    return [
        lottery.Dense(rng.normal(size=shape) * (rng.random(shape) < density), rng.normal(size=shape[1]) / 4)
        for shape in itertools.pairwise(widths)
    ]


def random_masks(key, widths, densities, batch=()):
    keys = jax.random.split(key, len(densities))
    return [
        jax.random.bernoulli(key, p, (*batch, *shape))
        for key, p, shape in zip(keys, densities, itertools.pairwise(widths), strict=True)
    ]


@functools.lru_cache
def digits_case(signed):
    target = sparse_target(64, 6, 3)
    widths = lottery.source_widths(target, DENSITIES, 1e-3, signed=signed)
    return target, random_masks(jax.random.key(4), widths, DENSITIES)


@pytest.mark.parametrize(
    ("signed", "lower", "x"),
    [
        (False, 0.0, DIGITS),
        (False, -3.0, DIGITS - 3),
        (False, DIGITS.min(0) - np.linspace(0, 1, 64), DIGITS - np.linspace(0, 1, 64)),
        (True, 0.0, np.asarray(data.standardise(DIGITS))),
    ],
    ids=["non-negative", "bounded", "bounded by pixel", "signed"],
)
def test_the_embedded_network_is_the_target_on_digits(signed, lower, x):
    target, masks = digits_case(signed)
    found = lottery.embed(target, masks, signed=signed, lower=lower)
    assert found.complete and len(found.network) == 3
    expected = lottery.apply(target, jnp.asarray(x))
    outputs = lottery.apply(found.network, jnp.asarray(x))
    scale = np.abs(x).max() * np.prod([np.abs(layer.kernel).sum(0).max() for layer in target])
    np.testing.assert_allclose(outputs, expected, atol=64 * np.finfo(float).eps * scale, rtol=0)
    for layer, mask in zip(found.network, masks, strict=True):
        assert not np.any(np.asarray(layer.kernel)[~np.asarray(mask)])


def test_single_precision_stays_single():
    target, masks = digits_case(False)
    target32 = [lottery.Dense(*(part.astype(np.float32) for part in layer)) for layer in target]
    found = lottery.embed(target32, masks)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.network)} == {jnp.dtype("float32")}
    x = jnp.asarray(DIGITS, jnp.float32)
    np.testing.assert_allclose(lottery.apply(found.network, x), lottery.apply(target32, x), atol=2e-5)


def reference(target, masks, signed):
    """Live copies and missing edges, copy by copy."""
    inputs = target[0].kernel.shape[0]
    rows = [(j, s) for s in range(2 if signed else 1) for j in range(inputs)]
    copies = masks[0].shape[1] // len(rows)
    live = [[bool(masks[0][j, r * copies + c]) for c in range(copies)] for r, (j, _) in enumerate(rows)]
    lives, missing = [live], []
    for at, (layer, mask) in enumerate(zip(target, masks[1:], strict=True)):
        n, units = layer.kernel.shape
        copies = mask.shape[1] // units
        hosts = len(lives[-1][0])
        sources = {j: [r for r, (i, _) in enumerate(rows) if i == j] for j in range(n)}
        if at or not signed:
            sources = {j: [j] for j in range(n)}
        live, lacking = [[True] * copies for _ in range(units)], np.zeros((n, units), int)
        for j, u, c in itertools.product(range(n), range(units), range(copies)):
            served = all(
                any(lives[-1][r][h] and mask[r * hosts + h, u * copies + c] for h in range(hosts)) for r in sources[j]
            )
            if layer.kernel[j, u] != 0 and not served:
                lacking[j, u] += 1
                live[u][c] = False
        lives.append(live)
        missing.append(lacking)
    return lives, missing


@pytest.mark.parametrize("signed", [False, True])
def test_missing_edges_are_reported_exactly(signed):
    """On sources that are too narrow, one of them with idle units; and vmap over masks is the loop."""
    target = sparse_target(3, 3, 2, density=0.7)
    widths = (3, 13 if signed else 7, 7, 2)
    batched = random_masks(jax.random.key(5), widths, (0.7, 0.7, 0.8), (24,))
    found = jax.jit(jax.vmap(lambda masks: lottery.embed(target, masks, signed=signed)))(batched)
    outcomes = set()
    x = jnp.asarray(rng.normal(size=(9, 3)) if signed else rng.random((9, 3)))
    for i in range(24):
        masks = [np.asarray(mask[i]) for mask in batched]
        lives, missing = reference(target, masks, signed)
        for part, expected in zip([*found.live, *found.missing], [*lives, *missing], strict=True):
            np.testing.assert_array_equal(part[i], expected)
        assert found.complete[i] == all(map(all, lives[-1]))
        outcomes.add(bool(found.complete[i]))
        network = jax.tree.map(lambda leaf, i=i: leaf[i], found.network)
        wrong = np.abs(lottery.apply(network, x) - lottery.apply(target, x)).max(0) > 1e-12
        np.testing.assert_array_equal(wrong, ~np.asarray(lives[-1])[:, 0])
        # Each non-zero weight of each live copy uses one edge.
        for layer, hosted, live in zip(target, network[1:], lives[1:], strict=True):
            used = np.sum(np.count_nonzero(layer.kernel, axis=0) * np.sum(live, axis=1))
            assert np.count_nonzero(hosted.kernel) == used * (2 if signed and layer is target[0] else 1)
    assert outcomes == {True, False}


def test_one_pruned_edge_is_the_one_that_is_missing():
    target = sparse_target(4, 3, 2, density=1.0)
    masks = [np.ones(shape, bool) for shape in [(4, 8), (8, 3), (3, 2)]]
    masks[1][4:6, 1] = False  # both copies of input 2 to unit 1
    found = lottery.embed(target, masks)
    expected = np.zeros((4, 3), int)
    expected[2, 1] = 1
    np.testing.assert_array_equal(found.missing[0], expected)
    np.testing.assert_array_equal(found.live[1], [[True], [False], [True]])
    assert not found.complete


def test_sources_of_sufficient_width_contain_the_target_often_enough():
    target, delta, densities = sparse_target(5, 4, 2, density=0.5), 0.2, (0.5, 0.4, 0.6)
    widths = lottery.source_widths(target, densities, delta)
    masks = random_masks(jax.random.key(6), widths, densities, (400,))
    found = jax.jit(jax.vmap(lambda masks: lottery.embed(target, masks)))(masks)
    everything = np.logical_and.reduce([np.all(part == 0, axis=(1, 2)) for part in found.missing])
    assert (found.complete | ~everything).all()
    assert everything.mean() >= 1 - delta
    narrow = [
        mask[:, : a // 3 if i else a, : b // 3 if i < 2 else b]
        for i, (mask, (a, b)) in enumerate(zip(masks, itertools.pairwise(widths), strict=True))
    ]
    assert jax.jit(jax.vmap(lambda masks: lottery.embed(target, masks)))(narrow).complete.mean() < 0.7


@pytest.mark.parametrize("signed", [False, True])
def test_source_widths_hold_the_sufficient_copies(signed):
    target = sparse_target(5, 4, 2, density=0.5)
    nonzeros = [int(np.count_nonzero(layer.kernel)) for layer in target]
    inputs, hidden, _ = lottery.sufficient_copies(nonzeros, DENSITIES, 0.1, signed=signed)
    widths = lottery.source_widths(target, DENSITIES, 0.1, signed=signed)
    assert widths == (5, 5 * inputs * (2 if signed else 1), 4 * hidden, 2)


def test_a_target_without_weights_needs_no_edge():
    target = [lottery.Dense(np.zeros((2, 2)), np.ones(2)), lottery.Dense(np.zeros((2, 1)), np.array([3.0]))]
    assert lottery.source_widths(target, [0.1] * 3, 0.1) == (2, 2, 2, 1)
    found = lottery.embed(target, [np.zeros(shape) for shape in [(2, 2), (2, 2), (2, 1)]])
    assert found.complete and lottery.apply(found.network, jnp.ones((1, 2))).tolist() == [[3.0]]


def test_whole_numbers_as_weights_do_not_round_the_shift_of_inputs():
    target = [lottery.Dense(np.array([[2], [1]]), np.array([0]))]
    found = lottery.embed(target, [np.ones((2, 2)), np.ones((2, 1))], lower=-0.5)
    x = jnp.array([[-0.5, -0.25]])
    assert found.complete and lottery.apply(found.network, x).tolist() == [[-1.25]]


T = sparse_target(3, 2, 1)


def shapes(*widths):
    return [np.ones(shape, bool) for shape in itertools.pairwise(widths)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lottery.embed(T, shapes(3, 3, 1)), "masks has 2 layers; it takes 3, one more than the target"),
        (lambda: lottery.embed(T, shapes(4, 4, 2, 1)), r"masks\[0\] has 4 inputs; it takes 3, those of the target"),
        (lambda: lottery.embed(T, shapes(3, 2, 2, 1)), r"masks\[0\] has 2 units; it takes at least 3"),
        (lambda: lottery.embed(T, shapes(3, 5, 2, 1), signed=True), r"masks\[0\] has 5 units; it takes at least 6"),
        (lambda: lottery.embed(T, shapes(3, 3, 1, 1)), r"masks\[1\] has 1 units; it takes at least 2"),
        (lambda: lottery.embed(T, shapes(3, 3, 2, 2)), r"masks\[2\] has 2 units; it takes 1, the target's outputs"),
        (lambda: lottery.embed(T[::-1], shapes(3, 3, 2, 1)), r"target\[1\] has 3 inputs; it takes 1, the units before"),
        (lambda: lottery.embed([], []), "target has no layers; it takes at least one"),
        (lambda: lottery.embed(T, shapes(3, 0, 2, 1)), r"masks\[0\] has shape \(3, 0\); it takes \[inputs, units\]"),
        (
            lambda: lottery.embed([T[0], T[1]._replace(bias=np.array([np.nan]))], shapes(3, 3, 2, 1)),
            r"target\[1\].bias has the entry nan; it takes finite numbers",
        ),
        (
            lambda: lottery.embed([T[0]._replace(bias=None), T[1]], shapes(3, 3, 2, 1)),
            r"target\[0\].bias is None; it takes \[2\], zeros for a layer without biases",
        ),
        (
            lambda: lottery.embed([T[0]._replace(bias=np.ones(1)), T[1]], shapes(3, 3, 2, 1)),
            r"target\[0\].bias is of shape \(1,\); it takes \[2\]",
        ),
        (
            lambda: lottery.embed(T, shapes(3, 3, 2, 1), lower=np.zeros(2)),
            r"lower has shape \(2,\); it takes one number, or one for each of 3 inputs",
        ),
        (lambda: lottery.sufficient_copies([3], [1e-300, 1e-300], 0.1), "densities is .*does not underflow to 0"),
        (lambda: lottery.source_widths(T, [0.5, 0.5], 0.1), "densities has 2 entries; it takes 3"),
        (lambda: lottery.source_widths(T, [0.5, 0.5, 0.5], 1.0), "delta is 1.0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_masks_of_another_structure_are_refused():
    """A mask shaped like flax's parameters does not say which layer comes first."""
    mask = {"Dense_0": np.ones((3, 3)), "Dense_1": np.ones((3, 2)), "Dense_2": np.ones((2, 1))}
    kernels = [layer.kernel for layer in T]
    message = r"masks is \{'Dense_0': .*; it takes a sequence of arrays"
    with without_type_checks():
        for call in (
            lambda: lottery.embed(T, mask),
            lambda: lottery.live_units(mask),
            lambda: lottery.strong_ticket(kernels, [np.ones((3, 3))] * 4, mask, np.ones(2)),
        ):
            with pytest.raises(ValueError, match=message):
                call()
