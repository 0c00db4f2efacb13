"""Networks that carry a state: batch statistics and dropout are trained as their users do, in each library."""

import functools
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import sketchprune as sp
from sketchprune import kernels, masks, paths, prune, scores, train
from tests.support import taken, without_type_checks

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guides" / "networks.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## (?:flax )?(\w+)\n\n```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.standard_normal((12, 4)) * 2 + 1, jnp.float32)
Y = jnp.asarray(RNG.standard_normal((12, 2)), jnp.float32)
KEY, OPTIMIZER = jax.random.key(0), optax.adam(0.01)


def half_squares(outputs, targets):
    return jnp.sum((outputs - targets) ** 2) / 2


@functools.cache
def recipe(name):
    """What the names of a recipe are after it has run."""
    names = {"sp": sp, "jax": jax, "linen": linen, "nnx": nnx, "eqx": eqx, "x": X, "y": Y, "key": KEY}
    names |= {"loss": half_squares, "optimizer": OPTIMIZER}
    exec(RECIPES[name], names)
    return names


@pytest.mark.parametrize("name", ["linen", "nnx", "equinox"])
def test_recipes(name):
    """Averages move towards those of the data, the network in evaluation mode is pruned and taken apart, and trains."""
    names = recipe(name)
    fit, apply = names["fit"], names["apply"]
    assert np.isfinite(fit.losses).all() and fit.losses.shape == (20,)
    moved = [
        bool((jnp.asarray(new) != old).any())
        for new, old in zip(*(jax.tree.leaves(each) for each in (fit.network_state, names["state"])), strict=True)
        if jnp.issubdtype(new.dtype, jnp.floating)
    ]
    assert all(moved) and len(moved) >= 2
    mask = prune.one_shot(scores.snip, apply, half_squares, fit.params, (X, Y), 20)
    options = {"mask": mask, "network_state": fit.network_state}
    again = train.fit(names["trained"], half_squares, fit.params, (X, Y), OPTIMIZER, 3, key=KEY, **options)
    for weight, kept in zip(jax.tree.leaves(again.params), jax.tree.leaves(mask), strict=True):
        assert (weight[~np.asarray(kept)] == 0).all()
    assert kernels.ntk(apply, fit.params, X[:3]).shape == (3, 3, 2, 2)
    # Dropout is on while it trains: another key gives other losses.
    key = jax.random.key(1)
    other = train.fit(names["trained"], half_squares, fit.params, (X, Y), OPTIMIZER, 3, key=key, **options)
    assert (other.losses != again.losses).all()


def test_the_recipe_for_pruning_at_initialisation():
    """The first state prunes, and what is pruned stays zero in training."""
    (pruning,) = re.findall(r"^To prune at initialisation.*?\n\n```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    names = recipe("nnx") | {"keep": 20}
    exec(pruning, names)
    mask = jax.tree.leaves(names["mask"])
    assert sum(int(kept.sum()) for kept in mask if kept.ndim == 2) == 20
    for weight, kept in zip(jax.tree.leaves(names["fit"].params), mask, strict=True):
        assert (weight[~np.asarray(kept)] == 0).all()


# --- By hand: a mean that is carried, and noise


PARAMS = {"w": X[:4, :2] / 3, "b": jnp.ones(2, jnp.float32)}
STATE = {"mean": jnp.zeros(4, jnp.float32), "steps": jnp.int32(0)}


def carried(params, x, state, key):
    mean = 0.9 * state["mean"] + 0.1 * x.mean(0)
    noise = 0 if key is None else 0.1 * jax.random.normal(key, x.shape, x.dtype)
    return (x - mean + noise) @ params["w"] + params["b"], {"mean": mean, "steps": state["steps"] + 1}


def evaluated(params, state):
    return half_squares((X - state["mean"]) @ params["w"] + params["b"], Y)


def by_hand(steps):
    """Full batches without a key."""
    params, state, inner, losses = PARAMS, STATE, OPTIMIZER.init(PARAMS), []
    for _ in range(steps):

        def loss(params, state=state):
            outputs, after = carried(params, X, state, None)
            return half_squares(outputs, Y), after

        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, inner = OPTIMIZER.update(gradient, inner, params)
        params = optax.apply_updates(params, updates)
        losses.append(value)
    return params, losses, state


def assert_close(found, expected):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected)


def test_the_state_goes_from_step_to_step():
    params, losses, state = by_hand(4)
    found = train.fit(carried, half_squares, PARAMS, (X, Y), OPTIMIZER, 4, network_state=STATE)
    assert_close((found.params, list(found.losses), found.network_state), (params, losses, state))
    first = train.fit(carried, half_squares, PARAMS, (X, Y), OPTIMIZER, 1, network_state=STATE)
    rest = train.fit(
        carried, half_squares, first.params, (X, Y), OPTIMIZER, 3, state=first.state, network_state=first.network_state
    )
    jax.tree.map(np.testing.assert_array_equal, (rest.params, rest.network_state), (found.params, found.network_state))


def test_each_step_has_a_key_of_its_own_and_goes_on_with_it():
    options = {"key": KEY, "batch_size": 4}
    whole = train.fit(carried, half_squares, PARAMS, (X, Y), OPTIMIZER, 5, network_state=STATE, **options)
    first = train.fit(carried, half_squares, PARAMS, (X, Y), OPTIMIZER, 2, network_state=STATE, **options)
    rest = train.fit(
        carried, half_squares, first.params, (X, Y), OPTIMIZER, 3, state=first.state,
        network_state=first.network_state, **options,
    )  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, whole.params, rest.params)

    def drawn(params, x, state, key):
        return x @ params["w"] + params["b"], state.at[1:].set(state[:-1]).at[0].set(jax.random.uniform(key))

    draws = train.fit(
        drawn, half_squares, PARAMS, (X, Y), OPTIMIZER, 6, network_state=jnp.zeros(6), key=KEY
    ).network_state
    assert len(np.unique(draws)) == 6


def test_dropout_alone_and_line_searches():
    """The loss that a line search asks for has the state and the key of the step."""

    def noisy(params, x, state, key):
        return (x + jax.random.normal(key, x.shape, x.dtype)) @ params["w"] + params["b"], state

    fit = train.fit(noisy, half_squares, PARAMS, (X, Y), optax.lbfgs(), 3, key=KEY, network_state=())
    assert fit.network_state == () and np.isfinite(fit.losses).all()


@pytest.mark.parametrize("stacked", ["masks", "starts"])
def test_many_networks_are_the_loop(stacked):
    keys = jax.random.split(KEY, 3)
    mask = {"w": jnp.asarray(RNG.random((3, 4, 2)) < 0.6), "b": jnp.ones((3, 2), bool)}
    starts, states = (jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1, leaf]), tree) for tree in (PARAMS, STATE))
    options = {"batch_size": 4, "evaluate": evaluated, "checkpoints": [5]}
    start = (PARAMS, STATE) if stacked == "masks" else (starts, states)
    fits = train.fit_many(
        carried, half_squares, start[0], (X, Y), OPTIMIZER, 5, mask=mask, key=keys, network_state=start[1], **options
    )
    for i in range(3):
        params, state = start if stacked == "masks" else taken(start, i)
        alone = train.fit(
            carried, half_squares, params, (X, Y), OPTIMIZER, 5, mask=taken(mask, i), key=keys[i], batch_size=4,
            network_state=state,
        )  # fmt: skip
        assert_close(
            taken((fits.params, fits.losses, fits.network_state), i), (alone.params, alone.losses, alone.network_state)
        )
        assert_close(fits.curve[i, 0], evaluated(masks.apply(alone.params, taken(mask, i)), alone.network_state))


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda params, x, state, key: x @ params["w"], r"network_state it takes one that returns \(outputs, state\)"),
        (
            lambda params, x, state, key: (x @ params["w"], {}),
            r"the state that apply returns has no leaf \['.*'\]; it takes the structure of the state that it is given",
        ),
        (
            lambda params, x, state, key: (x @ params["w"], state | {"steps": 1.0 * state["steps"]}),
            r"returns\['steps'\] has dtype float64; it takes that of the state that it is given, int32",
        ),
    ],
)
def test_a_state_that_is_not_returned_as_it_was_given(apply, message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        train.fit(apply, half_squares, PARAMS, (X, Y), OPTIMIZER, 2, network_state=STATE)


# --- What couples samples is refused


def test_equal_ends_do_not_hide_that_samples_are_coupled():
    x = jnp.array([[1.0, 2.0], [5.0, 6.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="apply couples samples"):
        kernels.ntk(lambda w, x: (x - x.mean(axis=0)) @ w, jnp.ones((2, 1)), x)


def test_pruning_by_the_least_bound_refuses_coupled_samples():
    x = jnp.array([[1.0, 2.0], [5.0, 6.0]])
    with pytest.raises(ValueError, match="apply couples samples"):
        prune.least_bound(lambda w, x: (x - x.mean(axis=0)) @ w, jnp.ones((2, 1)), (x, jnp.ones((2, 1))), [1])


def normalised(params, x):
    """Batch normalisation in training mode."""
    hidden = x @ params["w"]
    return (hidden - hidden.mean(0)) / jnp.sqrt(hidden.var(0) + 1e-3) * params["b"]


def dropped(params, x):
    return jnp.where(jax.random.bernoulli(KEY, 0.5, x.shape), x, 0) @ params["w"]


BATCH = (X, Y)
COUPLED = {
    "snip": lambda apply: scores.snip(apply, half_squares, PARAMS, BATCH),
    "few": lambda apply: scores.grasp(apply, half_squares, PARAMS, (X[:2], Y[:2])),
    "ntk score": lambda apply: scores.ntk_trace(apply, None, PARAMS, BATCH),
    "prune": lambda apply: prune.one_shot(scores.snip, apply, half_squares, PARAMS, BATCH, 3),
    "option": lambda apply: prune.one_shot(
        functools.partial(scores.ntk_sap, draws=2), apply, half_squares, PARAMS, BATCH, 3, key=KEY
    ),
    "iterative": lambda apply: prune.iterative(scores.snip, apply, half_squares, PARAMS, BATCH, [3]),
    "ntk": lambda apply: kernels.ntk(apply, PARAMS, X),
    "ntk of two": lambda apply: kernels.ntk(apply, PARAMS, X[:1], X[1:]),
    "paths": lambda apply: paths.trace(apply, PARAMS, (4,), allow_max_and_bias=True),
    "columns": lambda apply: kernels.column_norms(apply, PARAMS, X),
    "product": lambda apply: kernels.ntk_vector_product(apply, PARAMS, X, Y),
}  # fmt: skip


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("apply", [normalised, dropped])
def test_what_couples_samples_is_refused(name, apply):
    message = "apply couples samples, as batch normalisation and dropout in training mode do; it takes a network that"
    with pytest.raises(ValueError, match=message):
        COUPLED[name](apply)
