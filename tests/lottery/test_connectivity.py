"""Connectivity: probabilities against enumeration of all masks, live units against paths, bounds at their edge."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import lottery

rng = np.random.default_rng(0)


def all_masks(*shape):
    return np.array(list(itertools.product([0, 1], repeat=math.prod(shape)))).reshape(-1, *shape)


def weight(mask, density):
    """The probability of a mask."""
    return np.prod(np.where(mask, density, 1 - density), axis=tuple(range(1, mask.ndim)))


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_connection_probability_is_the_sum_over_all_masks(density):
    masks = all_masks(3, 2)
    connected = np.array([np.asarray(mask).any(0).all() for mask in masks])
    np.testing.assert_allclose(
        lottery.connection_probability(density, 2, 3), weight(masks, density) @ connected, rtol=1e-13
    )


@pytest.mark.parametrize(("density", "units", "fan_in"), [(1e-9, 2, 3), (2**-10, 20, 5000), (0.5, 1000, 70)])
def test_connection_probability_is_accurate_where_it_is_extreme(density, units, fan_in):
    lacking = (1 - Fraction(density)) ** fan_in
    exact = (1 - lacking) ** units
    found = lottery.connection_probability(density, units, fan_in)
    np.testing.assert_allclose(found, float(exact), rtol=1e-12)
    np.testing.assert_allclose(1 - found, float(1 - exact), rtol=1e-12, atol=2e-16)


@pytest.mark.parametrize(("delta", "units", "fan_in"), [(0.1, 4, 3), (1e-12, 512, 4608), (0.5, 1, 1)])
def test_sufficient_density_leaves_delta_to_the_union_bound(delta, units, fan_in):
    density = lottery.sufficient_density(delta, units, fan_in)
    np.testing.assert_allclose(units * np.exp(fan_in * np.log1p(-np.float64(density))), delta, rtol=1e-11)
    assert lottery.connection_probability(density, units, fan_in) >= 1 - delta


def test_containment_probability_is_the_sum_over_all_masks():
    first, second = all_masks(2, 3), all_masks(3, 1)
    reached = (first[:, None] & second[None, :, :, 0][:, :, None]).any(3).all(2)
    for p, q in [(0.3, 0.6), (1.0, 0.25), (0.5, 1.0), (0.4, 0.0)]:
        expected = weight(first, p) @ reached @ weight(second, q)
        np.testing.assert_allclose(lottery.containment_probability(2, 3, p, q), expected, rtol=1e-12)


def test_containment_probability_takes_traced_widths():
    widths = jnp.array([1, 5, 40])
    traced = jax.jit(jax.vmap(lambda n: lottery.containment_probability(30, n, 0.3, 0.5, max_width=64)))(widths)
    single = [lottery.containment_probability(30, int(n), 0.3, 0.5, max_width=64) for n in widths]
    np.testing.assert_allclose(traced, single, rtol=1e-11)
    single32 = lottery.containment_probability(30, 40, np.float32(0.3), np.float32(0.5))
    np.testing.assert_allclose(lottery.containment_probability(30, 40, 0.3, 0.5), single[2], rtol=1e-11)
    assert single32.dtype == jnp.float32
    np.testing.assert_allclose(single32, single[2], rtol=4e-5)


@pytest.mark.parametrize(("inputs", "density", "delta"), [(64, 0.1, 0.05), (1, 0.5, 0.5), (784, 1e-6, 1e-9)])
def test_necessary_width_is_where_all_inputs_connect_with_the_allowed_probability(inputs, density, delta):
    width = np.float64(lottery.necessary_width(inputs, density, delta))
    lacking = np.exp(width * np.log1p(-density))
    np.testing.assert_allclose(-np.expm1(inputs * np.log1p(-lacking)), delta, rtol=1e-8)


def test_necessary_width_is_necessary_and_zero_for_a_dense_layer():
    width = math.ceil(lottery.necessary_width(20, 0.3, 0.1))
    assert lottery.containment_probability(20, width, 0.3, 1.0) >= 0.9
    assert lottery.containment_probability(20, width - 1, 0.3, 1.0) < 0.9
    assert lottery.necessary_width(20, 1.0, 0.1) == 0


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("delta", [0.3, 1e-6])
def test_sufficient_copies_are_the_least_that_the_recursion_allows(signed, delta):
    nonzeros, densities = [900, 50, 7], [0.5, 0.2, 0.9, 0.04]
    copies = lottery.sufficient_copies(nonzeros, densities, delta, signed=signed)
    assert copies[-1] == 1 and len(copies) == 4
    live = [densities[0] * densities[1], *densities[2:]]
    for layer in range(3):
        failing = nonzeros[layer] * copies[layer + 1] * 3 * (2 if signed and layer == 0 else 1)
        assert failing * (1 - live[layer]) ** copies[layer] <= delta * (1 + 1e-9)
        assert failing * (1 - live[layer]) ** (copies[layer] - 1) > delta


def test_sufficient_copies_of_what_cannot_fail_is_one():
    assert lottery.sufficient_copies([0, 5], [0.1, 0.1, 1.0], 0.1) == (1, 1, 1)
    assert lottery.sufficient_copies([1], [1.0, 1.0], 0.9) == (1, 1)


def live_by_paths(masks):
    """Units on a path, by following every path."""
    live = [np.zeros(len(masks[0]), bool), *(np.zeros(mask.shape[1], bool) for mask in masks)]
    for path in itertools.product(*(range(len(units)) for units in live)):
        if all(mask[a, b] for mask, a, b in zip(masks, path, path[1:], strict=False)):
            for units, unit in zip(live, path, strict=True):
                units[unit] = True
    return live


def test_live_units_are_those_on_paths():
    for _ in range(30):
        masks = [rng.random(shape) < 0.35 for shape in [(3, 4), (4, 3), (3, 2)]]
        for found, expected in zip(lottery.live_units(masks), live_by_paths(masks), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_live_units_fold_a_flattened_image_onto_its_channels():
    for _ in range(20):
        conv, dense = rng.random((2, 2, 2, 3)) < 0.15, rng.random((12, 2)) < 0.15
        folded = [conv.any((0, 1)), dense.reshape(4, 3, 2).any(0)]
        inputs, channels, outputs = live_by_paths(folded)
        for found, expected in zip(lottery.live_units([conv, dense]), (inputs, channels, outputs), strict=True):
            np.testing.assert_array_equal(found, expected)
        cut = lottery.remove_dead_edges([conv, dense])
        np.testing.assert_array_equal(cut[0], conv & inputs[:, None] & channels)
        np.testing.assert_array_equal(cut[1], dense & np.tile(channels, 4)[:, None] & outputs)


def test_removing_dead_edges_changes_no_output():
    masks = [rng.random(shape) < 0.3 for shape in [(5, 6), (6, 6), (6, 2)]]
    cut = lottery.remove_dead_edges(masks)
    assert sum(map(np.sum, cut)) < sum(map(np.sum, masks))
    kernels = [rng.normal(size=mask.shape) for mask in masks]
    x = jnp.asarray(rng.normal(size=(7, 5)))

    def outputs(kept):
        pruned = [w * np.asarray(mask) for w, mask in zip(kernels, kept, strict=True)]
        return lottery.apply([lottery.Dense(w, np.zeros(w.shape[1])) for w in pruned], x)

    np.testing.assert_array_equal(outputs(cut), outputs(masks))
    for again, mask in zip(lottery.remove_dead_edges(cut), cut, strict=True):
        np.testing.assert_array_equal(again, mask)


def test_masks_under_vmap_are_the_loop():
    masks = [jnp.asarray(rng.random((6, *shape)) < 0.3) for shape in [(3, 4), (4, 2)]]
    for function in (lottery.live_units, lottery.remove_dead_edges):
        batched = jax.jit(jax.vmap(function))(masks)
        for i in range(6):
            single = function([mask[i] for mask in masks])
            for a, b in zip(batched, single, strict=True):
                np.testing.assert_array_equal(a[i], b)


def test_connected_units_and_inputs_of_a_convolution():
    mask = np.zeros((2, 2, 3, 4))
    mask[1, 0, 2, 1] = 0.5
    assert lottery.connected_units(mask).tolist() == [False, True, False, False]
    assert lottery.connected_inputs(mask).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lottery.connection_probability(1.5, 1, 1), r"density is 1.5; it takes a number in \[0, 1\]"),
        (lambda: lottery.connection_probability(0.5, 0, 1), "units is 0; it takes a whole number >= 1"),
        (lambda: lottery.connection_probability(0.5, 1, 0), "fan_in is 0; it takes a whole number >= 1"),
        (lambda: lottery.sufficient_density(0.0, 1, 1), r"delta is 0.0; it takes a number in \(0, 1\)"),
        (lambda: lottery.containment_probability(1, 5, 0.5, 0.5, max_width=4), "width is 5; it takes at most"),
        (lambda: jax.jit(lambda n: lottery.containment_probability(1, n, 0.5, 0.5))(3), "width is traced"),
        (lambda: lottery.necessary_width(3, 0.0, 0.5), r"density is 0.0; it takes a number in \(0, 1\]"),
        (lambda: lottery.sufficient_copies([], [0.5], 0.1), "nonzeros has no entries"),
        (lambda: lottery.sufficient_copies([1, 1], [0.5], 0.1), "densities has 1 entries; it takes 3"),
        (lambda: lottery.sufficient_copies([1], [0.5, 0.0], 0.1), r"densities is .* it takes a number in \(0, 1\]"),
        (lambda: lottery.live_units([]), "masks has no layers; it takes at least one"),
        (lambda: lottery.live_units([np.ones((2, 3)), np.ones((4, 1))]), r"masks\[1\] has 4 inputs; .* multiple of 3"),
        (lambda: lottery.live_units([np.ones((2, 0))]), r"masks\[0\] has shape \(2, 0\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
