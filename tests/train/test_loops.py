"""Training: pruned weights stay zero under any optimiser, and training is what it says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sketchprune import laws, linalg, masks, train
from tests.support import taken

OPTIMIZERS = {
    "sgd": optax.sgd(0.02),
    "nesterov": optax.sgd(0.02, momentum=0.9, nesterov=True),
    "adam": optax.adam(0.05),
    "adamw": optax.adamw(0.05, weight_decay=0.1),
    "rmsprop": optax.rmsprop(0.02, momentum=0.5),
    "lion": optax.lion(0.02, weight_decay=0.1),
    "adagrad": optax.adagrad(0.1),
    "lamb": optax.lamb(0.02),
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(optax.cosine_decay_schedule(0.1, 20))),
    "lbfgs": optax.lbfgs(),
    "noisy": optax.noisy_sgd(0.02, eta=0.1, key=0),
}


def network(params, x):
    hidden = jnp.tanh(x @ params["first"] + params["bias"])
    return hidden @ params["second"]


def mean_square(outputs, targets):
    return jnp.mean((outputs - targets) ** 2)


def half_squares(outputs, targets):
    return jnp.sum((outputs - targets) ** 2) / 2


def linear_model(w, x):
    return x @ w


def problem(seed=0):
    keys = jax.random.split(jax.random.key(seed), 6)
    params = {
        "first": jax.random.normal(keys[0], (4, 6)),
        "bias": jax.random.normal(keys[1], (6,)),
        "second": jax.random.normal(keys[2], (6, 2)),
    }
    mask = {
        "first": jax.random.bernoulli(keys[3], 0.5, (4, 6)),
        "bias": jnp.ones(6, bool),
        "second": jax.random.bernoulli(keys[4], 0.5, (6, 2)),
    }
    x = jax.random.normal(keys[5], (20, 4))
    return params, mask, (x, jnp.sin(x[:, :2]))


def kept_and_pruned(params, mask):
    flat = [jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (params, mask)]
    return flat[0][flat[1]], flat[0][~flat[1]]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_stay_exactly_zero(name):
    params, mask, data = problem()
    trained, losses = train.fit(network, mean_square, params, data, OPTIMIZERS[name], 20, mask=mask)
    kept, pruned = kept_and_pruned(trained, mask)
    assert (pruned == 0).all() and (kept != kept_and_pruned(params, mask)[0]).any()
    assert losses.shape == (20,) and losses[-1] < losses[0]
    start = mean_square(network(masks.apply(params, mask), data[0]), data[1])
    assert float(losses[0]) == pytest.approx(float(start), rel=1e-12)
    if name != "noisy":  # training the kept columns of a linear model alone is the same
        x, y = data[0], data[1][:, 0]
        columns = jnp.array([True, False, True, False])
        start = jnp.array([0.5, -1.0, 2.0, 3.0])
        whole, _ = train.fit(linear_model, mean_square, start, (x, y), OPTIMIZERS[name], 20, mask=columns)
        part, _ = train.fit(linear_model, mean_square, start[::2], (x[:, ::2], y), OPTIMIZERS[name], 20)
        np.testing.assert_allclose(whole, jnp.array([part[0], 0, part[1], 0]), rtol=1e-9)


def test_gradient_descent_is_the_closed_form():
    _, _, (x, y) = problem()
    y, start = y[:, 0], jnp.array([0.5, -1.0, 2.0, 3.0])
    mask = jnp.array([0.5, 0.0, 3.0, 1.0])  # a sketch trains its support
    step_size = 1 / float(jnp.linalg.norm(x, 2) ** 2)
    path = linalg.trajectory(x, y, start, step_size, jnp.arange(31), mask=mask)
    fit = functools.partial(train.fit, linear_model, half_squares, start, (x, y), optax.sgd(step_size))
    trained, losses = fit(30, mask=mask)
    np.testing.assert_allclose(trained, path[30], rtol=1e-11)
    np.testing.assert_allclose(losses, jax.vmap(half_squares, (0, None))(path[:30] @ x.T, y), rtol=1e-11)
    untrained, none = fit(0, mask=mask)
    np.testing.assert_array_equal(untrained, [0.5, 0, 2, 3])
    assert none.shape == (0,)
    end, steps, norm = train.converge(linear_model, half_squares, start, (x, y), optax.sgd(step_size), 10**4, mask=mask)
    np.testing.assert_allclose(end, linalg.limit(x, y, start, mask=mask), rtol=1e-11)
    assert 0 < steps < 10**4
    gradient = (mask != 0) * (x.T @ (x @ end - y))
    assert float(norm) == pytest.approx(float(jnp.linalg.norm(gradient)), rel=1e-3, abs=1e-13)


def test_masks_keys_and_starts_under_vmap_are_the_loop():
    params, _, data = problem()
    many = jax.vmap(functools.partial(masks_of, params=params))(jax.random.split(jax.random.key(1), 3))
    keys = jax.random.split(jax.random.key(2), 3)
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), params)

    def run(start, mask, key):
        return train.fit(network, mean_square, start, data, optax.adam(0.05), 12, mask=mask, key=key, batch_size=6)

    together = jax.vmap(run)(starts, many, keys)
    for i in range(3):
        alone = run(*taken((starts, many, keys), i))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), taken(together, i), alone)


@pytest.mark.parametrize("batch_size", [None, 6])
def test_training_goes_on_from_its_state(batch_size):
    """10 steps and 10 more are 20 bit for bit, within an epoch; a rewound start repeats them; levels may prune more."""
    params, mask, data = problem()
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 20))

    def fit(start, steps, **options):
        key = jax.random.key(5)
        return train.fit(network, mean_square, start, data, optimizer, steps, key=key, batch_size=batch_size, **options)

    whole = fit(params, 20, mask=mask)
    first = fit(params, 10, mask=mask)
    second = fit(first.params, 10, mask=mask, state=first.state)
    jax.tree.map(np.testing.assert_array_equal, (whole.params, whole.state), (second.params, second.state))
    np.testing.assert_array_equal(whole.losses, [*first.losses, *second.losses])
    assert second.state.step == 20
    smaller = mask | {"second": mask["second"].at[0].set(False)}
    pruned = fit(first.params, 10, mask=smaller, state=first.state)
    assert (pruned.params["second"][0] == 0).all()
    with pytest.raises(
        ValueError, match=r"state has a leaf \.optimizer.*; it takes the structure of the state of a fit of"
    ):
        train.fit(network, mean_square, params, data, optax.sgd(0.1), 10, state=first.state)


def masks_of(key, params):
    return laws.Poisson(jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), params), binary=True).sample(key)


def test_epochs_visit_every_sample_once_in_a_new_order():
    """Each sample moves its own weight by one when it is visited."""
    n, batch_size = 10, 3
    data = (jnp.eye(n), jnp.zeros(n))

    def visits(steps, key):
        options = {"key": key, "batch_size": batch_size}
        return train.fit(linear_model, minus_sum, jnp.zeros(n), data, descent, steps, **options)[0]

    def minus_sum(outputs, _):
        return -jnp.sum(outputs)

    descent = optax.sgd(1.0)
    counts = {steps: np.asarray(visits(steps, jax.random.key(0))) for steps in (1, 3, 6, 9)}
    assert [int(count.sum()) for count in counts.values()] == [3, 9, 18, 27]
    assert set(counts[1]) == {0, 1} and set(counts[3]) <= {0, 1}
    epochs = [counts[3], counts[6] - counts[3], counts[9] - counts[6]]
    assert all(set(epoch) == {0, 1} for epoch in epochs)
    left_out = {int(np.argmin(epoch)) for epoch in epochs}
    assert len(left_out) > 1  # another sample is left out in another epoch
    keys = jax.random.split(jax.random.key(1), 200)
    seen = np.asarray(jax.vmap(functools.partial(visits, 3))(keys)).sum(0)
    assert (np.abs(seen - 180) < 5 * np.sqrt(200 * 0.1 * 0.9)).all()


def test_converge_stops_each_instance_by_itself():
    curvatures = jnp.array([1.0, 0.5, 0.1, 0.0])
    targets = jnp.ones(1)

    def run(curvature, max_steps=1000):
        data = (jnp.sqrt(curvature).reshape(1, 1), targets)
        return train.converge(linear_model, half_squares, jnp.zeros(1), data, optax.sgd(1.0), max_steps, tolerance=1e-6)

    ends, steps, norms = jax.vmap(run)(curvatures)
    assert steps.tolist() == [1, 20, 121, 0]  # √c(1 − c)^t ≤ 10^-6; without a slope nothing is to be done
    assert (norms <= 1e-6).all()
    for curvature, end, step in zip(curvatures, ends, steps, strict=True):
        alone = run(curvature)
        np.testing.assert_allclose(end, alone[0], rtol=1e-12)
        assert step == alone[1]
    assert run(0.1, 7)[1] == 7
    diverged = train.converge(
        linear_model, half_squares, jnp.zeros(1), (jnp.ones((1, 1)), targets), optax.sgd(jnp.nan), 99
    )
    assert diverged[1] == 1 and jnp.isnan(diverged[2])


def test_dtypes_are_kept():
    params, mask, data = jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf.astype(jnp.float32), problem())
    trained, losses = train.fit(network, mean_square, params, data, optax.adam(0.1), 2, mask=mask)
    assert {leaf.dtype for leaf in jax.tree.leaves((trained, losses))} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps is -1; it takes a whole number >= 0"),
        ({"batch_size": 4}, "key is None; it takes a key"),
        ({"batch_size": 0, "key": jax.random.key(0)}, "batch_size is 0; it takes 1 to 20"),
        ({"batch_size": 21, "key": jax.random.key(0)}, "batch_size is 21; it takes 1 to 20"),
        ({"data": (jnp.ones((3, 4)), jnp.ones(2))}, "data has 3 inputs and 2 targets"),
        ({"data": (jnp.ones((0, 4)), jnp.ones(0))}, "data has 0 inputs and 0 targets"),
        ({"mask": {"first": jnp.ones(3)}}, "mask has no leaf .*; it takes the structure of params"),
    ],
)
def test_bad_input(options, message):
    params, _, data = problem()
    arguments = {"params": params, "data": data, "optimizer": OPTIMIZERS["sgd"], "steps": 2} | options
    with pytest.raises(ValueError, match=message):
        train.fit(network, mean_square, **arguments)
