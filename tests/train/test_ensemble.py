"""Training of many models: the loop over train.fit, whatever the tiles and what is shared."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sketchprune import masks, train
from sketchprune.train import ensemble
from tests.support import taken, without_type_checks

MODELS, STEPS = 5, 10
OPTIMIZER = optax.adam(0.05)


def network(params, x):
    return jnp.tanh(x @ params["first"] + params["bias"]) @ params["second"]


def mean_square(outputs, targets):
    return jnp.mean((outputs - targets) ** 2)


def problem():
    rng = np.random.default_rng(0)
    shapes = {"first": (4, 6), "bias": (6,), "second": (6, 2)}
    params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
    mask = {name: jnp.asarray(rng.random((MODELS, *shape)) < 0.6) for name, shape in shapes.items()}
    x = jnp.asarray(rng.standard_normal((20, 4)))
    return params, mask, (x, jnp.sin(x[:, :2]))


PARAMS, MASK, DATA = problem()
STARTS = jax.tree.map(lambda leaf: jnp.stack([leaf * (i + 1) for i in range(MODELS)]), PARAMS)
KEY, KEYS = jax.random.key(0), jax.random.split(jax.random.key(1), 2)[jnp.array([0, 1, 1, 0, 1])]


def measure(params):
    return {"loss": mean_square(network(params, DATA[0]), DATA[1]), "bias": params["bias"]}


def alone(i, params, mask, key, **options):
    """Model i trained by itself."""
    one = functools.partial(jax.tree.map, lambda leaf: leaf[i])
    start = one(params) if params["bias"].ndim == 2 else params
    kept = mask if mask is None or mask["bias"].ndim == 1 else one(mask)
    key = key[i] if key is not None and key.ndim else key
    return train.fit(network, mean_square, start, DATA, OPTIMIZER, mask=kept, key=key, **options)


SHARING = {
    "masks": (PARAMS, MASK, None, None),
    "masks and batches": (PARAMS, MASK, KEY, 6),
    "masks and keys": (PARAMS, MASK, KEYS, 6),
    "starts": (STARTS, None, KEY, 6),
    "starts, one mask": (STARTS, jax.tree.map(lambda leaf: leaf[0], MASK), KEYS, 6),
    "all": (STARTS, MASK, KEYS, 6),
}


@pytest.mark.parametrize("name", SHARING)
def test_fit_many_is_the_loop(name):
    params, mask, key, batch_size = SHARING[name]
    options = {"steps": STEPS, "batch_size": batch_size}
    fits = train.fit_many(network, mean_square, params, DATA, OPTIMIZER, mask=mask, key=key, memory=6000, **options)
    assert fits.curve is None
    for i in range(MODELS):
        trained, losses = alone(i, params, mask, key, **options)
        np.testing.assert_allclose(fits.losses[i], losses, rtol=1e-9)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), taken(fits.params, i), trained
        )


def test_tiles_of_any_size_give_the_same():
    run = functools.partial(
        train.fit_many, network, mean_square, PARAMS, DATA, OPTIMIZER, STEPS, mask=MASK, key=KEY, batch_size=6
    )
    whole = run(memory=2**30)
    for memory in (1, 12000):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), run(memory=memory), whole)


def test_curves_are_the_models_on_the_way():
    checkpoints = (0, 1, 4, 7)
    fits = train.fit_many(
        network, mean_square, PARAMS, DATA, OPTIMIZER, STEPS, mask=MASK, key=KEYS, batch_size=6,
        evaluate=measure, checkpoints=checkpoints,
    )  # fmt: skip
    whole = train.fit_many(network, mean_square, PARAMS, DATA, OPTIMIZER, STEPS, mask=MASK, key=KEYS, batch_size=6)
    np.testing.assert_allclose(fits.losses, whole.losses, rtol=1e-9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), fits.params, whole.params)
    first = jax.tree.map(lambda leaf: leaf[0], MASK)
    for position, steps in enumerate(checkpoints):
        there, _ = alone(0, PARAMS, MASK, KEYS, steps=steps, batch_size=6)
        expected = measure(masks.apply(there, first))
        np.testing.assert_allclose(fits.curve["loss"][0, position], expected["loss"], rtol=1e-9)
        np.testing.assert_allclose(fits.curve["bias"][0, position], expected["bias"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("evaluated", [False, True])
def test_memory_bounds_what_all_threads_hold(monkeypatch, cores, evaluated):
    """As compiled, with the evaluation of one model for each thread on top; and it is made use of."""
    rng, models, memory = np.random.default_rng(0), 24, 2**22
    x, y = (jnp.asarray(rng.standard_normal((4000, width))) for width in (32, 4))
    params = [jnp.asarray(rng.standard_normal(shape)) for shape in ((32, 128), (128, 4))]
    stack = jax.tree.map(lambda leaf: jnp.ones((models, *leaf.shape), bool), params)

    def wide(params, x):
        return jnp.tanh(x @ params[0]) @ params[1]

    def far(params):
        return mean_square(wide(params, x), y)

    whole, held, tiles = ensemble._fit_tile, [], []

    def compiled(params, mask, network_state, key, data, *, plan):
        tiles.append(len(mask[0]))
        if len(tiles) == 1:
            program = whole.lower(params, mask, network_state, key, data, plan=plan).compile()
            held.append(program.memory_analysis().temp_size_in_bytes)
        return train.Fits(jnp.zeros((tiles[-1], 1)), jnp.zeros((tiles[-1], 3)), None)

    monkeypatch.setattr(ensemble, "_fit_tile", compiled)
    monkeypatch.setattr(ensemble, "CORES", cores)
    options = {"evaluate": far, "checkpoints": (0, 3)} if evaluated else {}
    options |= {"mask": stack, "key": KEY, "batch_size": 64, "memory": memory}
    with without_type_checks():  # the stand-in for a tile returns no record of fits
        train.fit_many(wide, mean_square, params, (x, y), OPTIMIZER, 3, **options)
    on_top = 2 * 8 * len(x) * 128 if evaluated else 0  # a product of all the samples and its hyperbolic tangent
    assert memory / 2 < cores * held[0] <= memory + cores * on_top
    assert set(tiles) == {tiles[0]} and models <= sum(tiles) < models + len(tiles)


def test_no_steps_leave_the_start():
    fits = train.fit_many(network, mean_square, PARAMS, DATA, OPTIMIZER, 0, mask=MASK, key=KEYS, batch_size=6)
    assert fits.losses.shape == (MODELS, 0)
    jax.tree.map(lambda a, b, m: np.testing.assert_array_equal(a, b * m), fits.params, PARAMS, MASK)
    measured = train.fit_many(
        network, mean_square, PARAMS, DATA, OPTIMIZER, 0, mask=MASK, evaluate=measure, checkpoints=(0,)
    )
    assert measured.losses.shape == (MODELS, 0)
    np.testing.assert_array_equal(measured.curve["bias"][:, 0], fits.params["bias"])


def test_the_last_checkpoint_may_be_the_end():
    fits = train.fit_many(
        network, mean_square, PARAMS, DATA, OPTIMIZER, 3, mask=MASK, evaluate=measure, checkpoints=(3,)
    )
    np.testing.assert_allclose(fits.curve["bias"][:, 0], fits.params["bias"], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps is -1; it takes a whole number >= 0"),
        ({"batch_size": 4}, "key is None; it takes a key"),
        ({"mask": None}, "the first axes have the lengths .*; it takes one number of models"),
        ({"mask": jax.tree.map(lambda leaf: leaf[0], MASK), "key": KEYS}, "stack of params or mask"),
        ({"mask": jax.tree.map(lambda leaf: leaf[:0], MASK)}, "stacks of no models"),
        ({"mask": jax.tree.map(lambda leaf: leaf[None], MASK)}, "mask has 3 axes where params has 1"),
        ({"key": KEYS[:2]}, r"lengths .*'key': 2.*; it takes one number of models"),
        ({"evaluate": measure}, r"checkpoints is \(\) and evaluate is .*; it takes both or neither"),
        ({"evaluate": measure, "checkpoints": (4, 2)}, r"checkpoints is \(4, 2\); it takes ascending numbers"),
        ({"evaluate": measure, "checkpoints": (11,)}, "from 0 to 10"),
        ({"data": (jnp.ones((3, 4)), jnp.ones(2))}, "data has 3 inputs and 2 targets"),
    ],
)
def test_bad_input(options, message):
    arguments = {"params": PARAMS, "data": DATA, "optimizer": OPTIMIZER, "steps": STEPS, "mask": MASK} | options
    with pytest.raises(ValueError, match=message):
        train.fit_many(network, mean_square, **arguments)
