"""Strong tickets: masks that stay inside the source, weights by subset sums, errors below the bounds."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sketchprune import data, laws, lottery, models, train

rng = np.random.default_rng(0)
KEY = jax.random.key(0)
DIGITS = data.load().x / 16.0
UNITS = 14


def kernels(*widths, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) / shape[0] ** 0.5 for shape in itertools.pairwise(widths)]


def kernel_masks(source, density, seed=2):
    rng = np.random.default_rng(seed)
    return [rng.random(kernel.shape) < density for kernel in source]


@functools.lru_cache
def digits_case(signed):
    target = kernels(64, 5, 3)
    source = lottery.random_source(jax.random.key(0), target, (2 * UNITS, UNITS), signed=signed)
    masks = kernel_masks(source, 0.9)
    x = np.asarray(data.standardise(DIGITS)) if signed else DIGITS
    activations = lottery.largest_activations(target, x)
    return target, source, masks, x, lottery.strong_ticket(target, source, masks, activations, signed=signed)


def weights_of(first, second, positive):
    """The weights that two layers put on relu(x) or on relu(−x)."""
    return np.maximum(np.asarray(first) if positive else -np.asarray(first), 0) @ np.asarray(second)


@pytest.mark.parametrize("signed", [False, True])
def test_tickets_are_masks_inside_the_source(signed):
    target, source, masks, _, ticket = digits_case(signed)
    assert len(ticket.masks) == len(ticket.network) == 4
    for kept, mask, layer, kernel in zip(ticket.masks, masks, ticket.network, source, strict=True):
        assert not np.any(np.asarray(kept) & ~mask)
        np.testing.assert_array_equal(layer.kernel, np.where(kept, kernel, 0))
        assert not np.any(layer.bias)
    for kept, kernel in zip(ticket.masks[::2], target, strict=True):
        owner = np.arange(kept.shape[1]) // (kept.shape[1] // len(kernel))
        assert not np.any(np.asarray(kept)[owner != np.arange(len(kernel))[:, None]])
    # No edge is kept that leads nowhere.
    for first, second in zip(ticket.masks[::2], ticket.masks[1::2], strict=True):
        np.testing.assert_array_equal(np.any(first, axis=0), np.any(second, axis=1))


@pytest.mark.parametrize("signed", [False, True])
def test_weight_errors_are_those_of_the_pruned_source(signed):
    target, _, _, _, ticket = digits_case(signed)
    for layer, kernel in enumerate(target):
        first, second = (part.kernel for part in ticket.network[2 * layer : 2 * layer + 2])
        errors = np.abs(weights_of(first, second, True) - kernel)
        if signed and layer == 0:
            errors = np.maximum(errors, np.abs(weights_of(first, second, False) + kernel))
        np.testing.assert_allclose(ticket.weight_errors[layer], errors.max(), rtol=1e-9)
        assert 0 < errors.max() < 0.2


@pytest.mark.parametrize("signed", [False, True])
def test_outputs_stay_within_the_bound_on_digits_and_off_them(signed):
    target, _, _, x, ticket = digits_case(signed)
    plain = [lottery.Dense(kernel, np.zeros(kernel.shape[1])) for kernel in target]
    errors = np.abs(lottery.apply(ticket.network, jnp.asarray(x)) - lottery.apply(plain, jnp.asarray(x)))
    assert 1e-4 * ticket.error_bounds[-1] < errors.max() <= ticket.error_bounds[-1]
    corners = jnp.asarray(rng.choice([-1.0, 1.0] if signed else [0.0, 1.0], size=(500, 64)))
    bound = lottery.perturbation_bound(target, ticket.weight_errors, lottery.activation_bounds(target, 1.0))
    errors = np.abs(lottery.apply(ticket.network, corners) - lottery.apply(plain, corners))
    assert errors.max() <= bound[-1]


def test_a_trained_target_on_whole_images():
    """Only masking a random network gives a trained one: every prediction but those near a tie, and the bound holds."""
    digits = data.load()
    x, y = jnp.float32(digits.x / 16), jnp.asarray(digits.y)
    apply, params = models.initial(models.mlp(12, 10, bias=False), KEY, x)
    trained = train.fit(apply, train.cross_entropy, params, (x, y), optax.adam(1e-2), 200).params
    target = [layer.kernel for layer in lottery.from_flax(trained)]
    source = lottery.random_source(KEY, target, 24)
    densities = (0.95, 0.95, 0.9, 0.9)
    kept = laws.ErdosRenyi(densities, tuple(kernel.shape for kernel in source)).sample(KEY)
    ticket = lottery.strong_ticket(target, source, kept, lottery.largest_activations(target, x))
    outputs, wanted = lottery.apply(ticket.network, x), apply(trained, x)
    error = float(abs(outputs - wanted).max())
    assert 0 < error <= ticket.error_bounds[-1]
    assert error < 0.05 * abs(wanted).max()
    agree = outputs.argmax(1) == wanted.argmax(1)
    margin = jnp.diff(jnp.sort(wanted, axis=1)[:, -2:], axis=1)[:, 0]
    assert agree[margin > 2 * error].all() and agree.mean() > 0.99


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
def test_each_weight_gets_the_subset_that_brute_force_finds(tolerance):
    """With both signs in the first layer, random a_r, units left over, and more live products than are used."""
    target = kernels(3, 2)
    source = [rng.normal(size=(3, 28)), rng.uniform(-2, 2, (28, 2))]
    masks = kernel_masks(source, 0.8)
    ticket = lottery.strong_ticket(target, source, masks, np.ones(1), signed=True, max_items=3, tolerance=tolerance)
    used = 0
    for j, i, positive in itertools.product(range(3), range(2), [True, False]):
        owned = np.arange(9 * j, 9 * j + 9)
        sign = source[0][j, owned] > 0 if positive else source[0][j, owned] < 0
        live = owned[sign & masks[0][j, owned] & masks[1][owned, i]]
        assert ticket.num_live[0][j, i] <= len(live)
        products = np.abs(source[0][j, live[:3]]) * source[1][live[:3], i]
        sums = [products[[c >> k & 1 == 1 for k in range(len(products))]].sum() for c in range(2 ** len(products))]
        errors = np.abs(np.array(sums) - (1 if positive else -1) * target[0][j, i])
        code = np.argmax(errors <= max(tolerance, errors.min()))
        expected = [c for k, c in enumerate(live[:3]) if code >> k & 1]
        found = owned[sign & np.asarray(ticket.masks[1])[owned, i]]
        assert found.tolist() == expected
        used += len(expected)
    assert np.sum(ticket.masks[1]) == used and not np.any(ticket.masks[1][27:])


def test_a_tolerance_gives_larger_errors_within_it():
    target, source, masks, _, best = digits_case(False)
    first = lottery.strong_ticket(target, source, masks, np.ones(2), tolerance=np.array([0.1, 0.2]))
    assert (best.weight_errors < first.weight_errors).all() and (first.weight_errors <= np.array([0.1, 0.2])).all()


def test_tickets_under_jit_and_vmap_are_eager():
    target, source = kernels(3, 2, 1), lottery.random_source(jax.random.key(1), kernels(3, 2, 1), 4)
    batched = [np.stack(masks) for masks in zip(*(kernel_masks(source, 0.7, seed) for seed in range(3)), strict=True)]
    mapped = jax.jit(jax.vmap(lambda masks: lottery.strong_ticket(target, source, masks, np.ones(2))))(batched)
    for i in range(3):
        single = lottery.strong_ticket(target, source, [mask[i] for mask in batched], np.ones(2))
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(single), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-13, atol=1e-15)


def test_what_cannot_be_approximated_is_documented_by_its_error():
    target = kernels(3, 2, 1)
    target[1][:] = 0
    source = lottery.random_source(jax.random.key(1), target, 4)
    assert not np.any(source[3])  # U[−4w, 4w] of a layer without weights
    ticket = lottery.strong_ticket(target, source, [np.zeros(kernel.shape) for kernel in source], np.ones(2))
    np.testing.assert_allclose(ticket.weight_errors, [np.abs(target[0]).max(), 0], rtol=1e-15)
    assert not any(map(np.any, ticket.masks)) and not any(map(np.any, ticket.num_live))
    assert ticket.error_bounds[1] == 0


def test_a_target_with_biases_is_one_without():
    layers = [lottery.Dense(kernel, rng.normal(size=kernel.shape[1]) / 4) for kernel in kernels(4, 3, 2)]
    target = lottery.fold_biases([lottery.Dense(*map(jnp.asarray, layer)) for layer in layers])
    source = lottery.random_source(jax.random.key(2), target, 12)
    ticket = lottery.strong_ticket(target, source, kernel_masks(source, 1.0), lottery.activation_bounds(target, 1.0))
    x = jnp.asarray(rng.random((40, 4)))
    errors = lottery.apply(ticket.network, jnp.concatenate([x, jnp.ones((40, 1))], 1)) - lottery.apply(layers, x)
    assert np.abs(errors).max() <= ticket.error_bounds[-1] < 0.5


def test_random_sources_have_the_laws_that_were_asked_for():
    target = [kernel.astype(np.float32) for kernel in kernels(6, 5, 2)]
    signs, first, ones, second = lottery.random_source(jax.random.key(3), target, 40, signed=True)
    assert signs.dtype == first.dtype == jnp.float32
    assert (signs == np.tile([1, -1], 120)).all() and (ones == 1).all()
    for drawn, kernel in [(first, target[0]), (second, target[1])]:
        scaled = np.asarray(drawn) / (4 * np.abs(kernel).max())
        assert np.abs(scaled).max() <= 1 and abs(scaled.mean()) < 0.1 and abs(np.var(scaled) - 1 / 3) < 0.05
    assert [kernel.shape for kernel in lottery.random_source(jax.random.key(3), target, (2, 3))] == [
        (6, 12),
        (12, 5),
        (5, 15),
        (15, 2),
    ]


def test_the_perturbation_bound_is_attained_and_holds():
    """Attained by equal positive weights; never passed by random ones, of which every layer moves."""
    equal = [np.full(shape, 0.3) for shape in [(4, 5), (5, 3), (3, 2)]]
    moved = [kernel + epsilon for kernel, epsilon in zip(equal, (0.1, 0.02, 0.05), strict=True)]

    def run(kernels, x):
        return lottery.apply([lottery.Dense(kernel, np.zeros(kernel.shape[1])) for kernel in kernels], x)

    ones = jnp.ones((1, 4))
    bound = lottery.perturbation_bound(equal, np.array([0.1, 0.02, 0.05]), lottery.largest_activations(equal, ones))
    np.testing.assert_allclose(np.abs(run(moved, ones) - run(equal, ones)).max(), bound[-1], rtol=1e-12)
    x = jnp.asarray(rng.uniform(-1, 1, (50, 4)))
    target = kernels(4, 5, 3, 2)
    for bounds in (lottery.largest_activations(target, x), lottery.activation_bounds(target, 1.0)):
        bound = lottery.perturbation_bound(target, np.array([0.1, 0.02, 0.05]), bounds)
        for _ in range(10):
            shifts = [
                e * rng.choice([-1, 1], kernel.shape) for e, kernel in zip((0.1, 0.02, 0.05), target, strict=True)
            ]
            moved = [kernel + shift for kernel, shift in zip(target, shifts, strict=True)]
            assert np.abs(run(moved, x) - run(target, x)).max() <= bound[-1]


def test_activations_are_the_largest_of_the_samples_and_bounded_in_the_cube():
    target, x = kernels(4, 5, 3, 2), rng.uniform(-1, 1, (50, 4))
    hidden = [x]
    for kernel in target[:-1]:
        hidden.append(np.maximum(hidden[-1] @ kernel, 0))
    largest = [np.abs(layer).max() for layer in hidden]
    np.testing.assert_allclose(lottery.largest_activations(target, x), largest, rtol=1e-12)
    assert (lottery.activation_bounds(target, 1.0) >= np.array(largest)).all()
    equal = [np.full(kernel.shape, 0.3) for kernel in target]
    corner = lottery.largest_activations(equal, np.full((1, 4), 0.5))
    np.testing.assert_allclose(lottery.activation_bounds(equal, 0.5), corner, rtol=1e-12)


T = kernels(2, 3, 1)
S = lottery.random_source


def source_shapes(*widths):
    return [np.ones(shape) for shape in itertools.pairwise(widths)]


def ticket(*widths, **options):
    source = source_shapes(*widths)
    return lottery.strong_ticket(T, source, source, np.ones(2), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ticket(2, 4, 3, 1), "source has 3 layers; it takes 4, two for each of the target"),
        (lambda: ticket(3, 6, 3, 6, 1), r"source\[0\] has 3 inputs; it takes 2, those of the target"),
        (lambda: ticket(2, 1, 3, 6, 1), r"source\[0\] has 1 units; it takes at least 2 for 2 inputs"),
        (lambda: ticket(2, 3, 3, 6, 1, signed=True), r"source\[0\] has 3 units; it takes at least 4"),
        (lambda: ticket(2, 4, 2, 6, 1), r"source\[1\] has 2 units; it takes 3, those of the target"),
        (lambda: ticket(2, 4, 3, 6, 1, max_items=21), "max_items is 21; it takes at most 20"),
        (lambda: ticket(2, 4, 3, 6, 1, max_items=0), "max_items is 0; it takes a whole number >= 1"),
        (lambda: ticket(2, 4, 3, 6, 1, tolerance=-0.5), "tolerance is -0.5; it takes a finite number >= 0"),
        (lambda: lottery.strong_ticket(T, source_shapes(2, 4, 3, 6, 1), [], np.ones(2)), r"masks has the shapes \[\]"),
        (lambda: lottery.strong_ticket([], [], [], np.ones(0)), "target has no layers"),
        (lambda: S(jax.random.key(0), T, 1, signed=True), "units is 1; it takes a whole number >= 2"),
        (lambda: S(jax.random.key(0), T, (3,)), "units has 1 entries; it takes 2, one for each layer"),
        (lambda: S(jax.random.key(0), [np.ones((0, 2))], 3), r"target\[0\] has shape \(0, 2\)"),
        (lambda: lottery.perturbation_bound(T, np.ones(3), np.ones(2)), r"weight_errors has shape \(3,\); it takes"),
        (lambda: lottery.perturbation_bound(T, np.ones(2), np.ones(1)), r"activations has shape \(1,\); it takes"),
        (lambda: lottery.perturbation_bound(T, np.array([0.1, -0.1]), np.ones(2)), "weight_errors is .*number >= 0"),
        (
            lambda: lottery.perturbation_bound(T, np.ones(2), np.array([1, np.nan])),
            "activations is .*number >= 0",
        ),
        (lambda: lottery.largest_activations(T, np.ones((0, 2))), r"x has shape \(0, 2\); it takes \[n, 2\], n >= 1"),
        (lambda: lottery.largest_activations(T, np.ones((4, 3))), r"x has shape \(4, 3\); it takes \[n, 2\], n >= 1"),
        (lambda: lottery.activation_bounds(T, -1.0), "radius is -1.0; it takes a finite number >= 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_weights_that_are_not_finite_are_refused():
    source = source_shapes(2, 4, 3, 6, 1)
    with pytest.raises(ValueError, match=r"target\[0\] has the entry nan; it takes finite numbers"):
        lottery.strong_ticket([T[0] * np.nan, T[1]], source, source, np.ones(2))


def test_a_target_of_zeros_is_the_empty_mask():
    """Without weights to approximate nothing is kept, and the ticket is exact."""
    target = [np.zeros((2, 3)), np.zeros((3, 1))]
    source = lottery.random_source(jax.random.key(0), [np.ones((2, 3)), np.ones((3, 1))], 4)
    found = lottery.strong_ticket(target, source, [np.ones(kernel.shape) for kernel in source], np.ones(2))
    assert not any(mask.any() for mask in found.masks)
    assert not found.weight_errors.any() and not found.error_bounds.any()
