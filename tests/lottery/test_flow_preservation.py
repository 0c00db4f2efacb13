"""Flow preservation: what repair adds, that it removes nothing, and the expected number of added edges."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import lottery

SHAPES = {"dense": (5, 4), "wide": (2, 7), "conv": (2, 2, 3, 4), "one input": (1, 3)}
KEYS = jax.random.split(jax.random.key(1), 3000)
repair_many = jax.jit(jax.vmap(lottery.repair))


def random_masks(shape, density):
    return jax.random.bernoulli(jax.random.key(2), density, (len(KEYS), *shape))


def per_layer(kept, axes):
    """Which units or inputs have an edge, for a batch of masks."""
    return np.asarray(kept).any(axis=axes)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_repair_connects_everything_with_as_few_edges_as_the_rule_adds(shape):
    axes = tuple(range(1, len(shape) + 1))
    for density in (0.0, 0.1, 0.4):
        masks = random_masks(shape, density)
        repaired = repair_many(KEYS, masks)
        assert repaired.dtype == masks.dtype and (repaired | ~masks).all()
        assert per_layer(repaired, axes[:-1]).all() and per_layer(repaired, (*axes[:-2], axes[-1])).all()
        added = np.sum(repaired & ~masks, axis=axes)
        lonely_units = np.sum(~per_layer(masks, axes[:-1]), axis=1)
        lonely_inputs = np.sum(~per_layer(masks, (*axes[:-2], axes[-1])), axis=1)
        assert (added >= np.maximum(lonely_units, lonely_inputs)).all() and (
            added <= lonely_units + lonely_inputs
        ).all()
        *positions, inputs, units = shape
        expected = lottery.expected_added_edges(density, inputs, units, int(np.prod(positions)))
        assert abs(added.mean() - expected) <= 5 * added.std() / len(KEYS) ** 0.5 + 1e-12


@pytest.mark.parametrize("density", [0.0, 0.2, 0.7, 1.0])
@pytest.mark.parametrize(("positions", "inputs", "units"), [(1, 3, 2), (2, 2, 2), (1, 1, 3), (1, 4, 1)])
def test_expected_added_edges_is_the_sum_over_all_masks_and_draws(density, positions, inputs, units):
    expected = 0.0
    for bits in itertools.product([False, True], repeat=positions * inputs * units):
        mask = np.reshape(bits, (positions, inputs, units))
        lonely = np.flatnonzero(~mask.any((0, 1)))
        added = []
        for draws in itertools.product(range(positions * inputs), repeat=len(lonely)):
            filled = mask.reshape(-1, units).copy()
            filled[list(draws), lonely] = True
            added.append(len(lonely) + np.sum(~filled.reshape(mask.shape).any((0, 2))))
        expected += np.mean(added) * density ** np.sum(mask) * (1 - density) ** np.sum(~mask)
    found = lottery.expected_added_edges(density, inputs, units, positions)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_added_edges_are_uniform():
    """Each of the edges of an empty unit is as likely as the others, so is each of those of an empty input."""
    repaired = np.asarray(repair_many(KEYS, jnp.zeros((len(KEYS), 2, 2, 3, 1), bool)))
    empty_unit = np.zeros((len(KEYS), 2, 2, 2, 4), bool)
    empty_unit[..., 0, :] = True
    by_input = np.asarray(repair_many(KEYS, jnp.asarray(empty_unit)))[..., 1, :]
    # A single unit draws one of 12 weights; then each input that is still empty draws one of its 4.
    np.testing.assert_allclose(repaired.mean(0), 1 / 12 + (2 / 3) / 4, atol=5 * 0.5 / len(KEYS) ** 0.5)
    assert (by_input.sum((1, 2, 3)) == 1).all()
    np.testing.assert_allclose(by_input.mean(0), 1 / 16, atol=5 * 0.25 / len(KEYS) ** 0.5)


def test_repair_of_a_network_treats_its_layers_independently():
    params = {
        "conv": jnp.zeros((2, 2, 3, 4), bool),
        "dense": {"bias": jnp.zeros(2), "kernel": jnp.zeros((3, 2), jnp.float32).at[0, 0].set(2.5)},
    }
    key = jax.random.key(3)
    repaired = lottery.repair(key, params)
    np.testing.assert_array_equal(repaired["dense"]["bias"], 0)
    kernel = np.asarray(repaired["dense"]["kernel"])
    assert kernel.dtype == np.float32 and kernel[0, 0] == 2.5 and set(np.unique(kernel)) == {0, 1, 2.5}
    # Another layer's mask changes nothing; the same mask in another layer is repaired by other draws.
    full = lottery.repair(key, params | {"conv": jnp.ones((2, 2, 3, 4), bool)})
    np.testing.assert_array_equal(full["dense"]["kernel"], kernel)
    assert full["conv"].all()
    first, second = lottery.repair(key, [jnp.zeros((8, 8)), jnp.zeros((8, 8))])
    assert (first != second).any()


def test_which_layers_are_repaired_can_be_chosen():
    """The first layer stays as it is; a bias that is chosen has no inputs and units."""
    mask = {"first": jnp.zeros((3, 4), bool), "last": {"bias": jnp.zeros(2), "kernel": jnp.zeros((4, 2), bool)}}
    repaired = lottery.repair(KEYS[0], mask, prunable=lambda path: path == "['last']['kernel']")
    assert not repaired["first"].any() and not repaired["last"]["bias"].any()
    alone = lottery.repair(KEYS[0], mask["last"]["kernel"])
    np.testing.assert_array_equal(repaired["last"]["kernel"], alone)
    with pytest.raises(ValueError, match=r"mask\['last'\]\['bias'\] has shape \(2,\); it takes \[..., inputs, units\]"):
        lottery.repair(KEYS[0], mask, prunable=lambda path: "last" in path)


def test_a_convolutional_network_after_repair_has_no_dead_channels():
    """Of two convolutions and a dense layer at density 0.05, every channel lies on a path."""
    shapes = {"a": (3, 3, 2, 6), "b": (3, 3, 6, 5), "c": (20, 3)}
    masks = {name: random_masks(shape, 0.05)[:200] for name, shape in shapes.items()}
    repaired = repair_many(KEYS[:200], masks)

    def live(masks):
        return [units.all() for units in lottery.live_units([masks["a"], masks["b"], masks["c"]])]

    assert not np.all(jax.vmap(live)(masks)) and np.all(jax.vmap(live)(repaired))
    added = np.mean([sum(np.sum(repaired[n][i] & ~masks[n][i]) for n in shapes) for i in range(200)])
    arguments = [(0.05, 2, 6, 9), (0.05, 6, 5, 9), (0.05, 20, 3)]
    expected = sum(float(lottery.expected_added_edges(*each)) for each in arguments)
    assert abs(added - expected) < 0.1 * expected  # more than five deviations


def test_repairing_twice_adds_nothing_and_jit_is_eager():
    masks = random_masks((5, 4), 0.1)[:5]
    batched = repair_many(KEYS[:5], masks)
    for key, mask, expected in zip(KEYS, masks, batched, strict=False):
        repaired = lottery.repair(key, mask)
        np.testing.assert_array_equal(repaired, expected)
        np.testing.assert_array_equal(lottery.repair(jax.random.key(7), repaired), repaired)


def test_expected_added_edges_is_accurate_for_small_densities_and_broadcasts():
    np.testing.assert_allclose(lottery.expected_added_edges(1e-300, 5, 3), 3 + 5 * 0.8**3, rtol=1e-13)
    np.testing.assert_allclose(1 - lottery.expected_added_edges(1e-12, 1, 1), 1e-12, rtol=1e-3)
    densities, units = np.linspace(0, 1, 5, dtype=np.float32), np.array([[3], [4]])
    table = jax.jit(lottery.expected_added_edges)(densities, 6, units)
    assert table.shape == (2, 5) and table.dtype == jnp.float32
    np.testing.assert_allclose(table[1, 2], lottery.expected_added_edges(0.5, 6, 4), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lottery.repair(KEYS[0], jnp.ones(3)), r"mask has shape \(3,\); it takes \[..., inputs, units\]"),
        (lambda: lottery.repair(KEYS[0], {"a": jnp.ones((0, 3))}), r"mask\['a'\] has shape \(0, 3\)"),
        (lambda: lottery.expected_added_edges(-0.1, 1, 1), r"density is -0.1; it takes a number in \[0, 1\]"),
        (lambda: lottery.expected_added_edges(0.1, 0, 1), "inputs is 0; it takes a whole number >= 1"),
        (lambda: lottery.expected_added_edges(0.1, 1, 1, 0), "positions is 0; it takes a whole number >= 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
