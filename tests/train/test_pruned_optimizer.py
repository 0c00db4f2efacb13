"""The pruned optimiser in loops of one's own: what is pruned is zero, and what is kept trains as if it were alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from sketchprune import masks, train
from tests.support import few

SHAPES, KEPT = {"first": (3, 2), "second": (4,)}, {"first": 3, "second": 2}
STEPS, LABELS = 7, {"first": "fast", "second": "slow"}
RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.standard_normal((8, 10))), jnp.asarray(RNG.standard_normal(8))
PARAMS = {name: jnp.asarray(RNG.standard_normal(shape)) for name, shape in SHAPES.items()}


def mean_square(params, x, y):
    weights = jnp.concatenate([params[name].ravel() for name in SHAPES])
    return jnp.mean((x @ weights - y) ** 2) + jnp.mean(weights**4) / 10


def places(key):
    """Which weights of each leaf are kept: some random ones, in ascending order."""
    keys = dict(zip(SHAPES, jax.random.split(key), strict=True))
    return {
        name: jnp.sort(jax.random.permutation(keys[name], int(np.prod(shape)))[: KEPT[name]])
        for name, shape in SHAPES.items()
    }


def scattered(values, index):
    """Values at some places of the leaves, zeros elsewhere."""
    return {
        name: jnp.zeros(int(np.prod(shape)), jnp.asarray(values[name]).dtype).at[index[name]].set(values[name])
        .reshape(shape)
        for name, shape in SHAPES.items()
    }  # fmt: skip


def mask_at(index):
    return scattered({name: jnp.ones(count, bool) for name, count in KEPT.items()}, index)


def run(optimizer, params, loss, state=None, steps=STEPS):
    """A loop as users write it: the parameters after each step, and the state."""
    state = optimizer.init(params) if state is None else state

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        extra = {"value": value, "grad": gradient, "value_fn": loss}
        updates, state = optax.with_extra_args_support(optimizer).update(gradient, state, params, **extra)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    (_, state), path = jax.lax.scan(step, (params, state), None, steps)
    return path, state


def whole_loss(params):
    return mean_square(params, X, Y)


BASES = {
    "sgd": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "adam": optax.adam,
    "adamw": lambda rate: optax.adamw(rate, weight_decay=0.1),
    "rmsprop": lambda rate: optax.rmsprop(rate, momentum=0.5, initial_scale=1.0),
    "lion": optax.lion,
    "lamb": optax.lamb,
    "adagrad": optax.adagrad,
}
AROUND = {
    "nothing": lambda base: base,
    "clipping": lambda base: optax.chain(optax.clip_by_global_norm(0.3), base),
    "decay": lambda base: optax.chain(optax.add_decayed_weights(0.1), base),
    "skipping": lambda base: optax.apply_if_finite(base, 3),
    "steps": lambda base: optax.MultiSteps(base, 3).gradient_transformation(),
    "transforms": lambda base: optax.multi_transform({"fast": base, "slow": optax.sgd(0.05)}, LABELS),
    "hyperparameters": lambda base: optax.chain(base, optax.inject_hyperparams(optax.scale)(step_size=0.5)),
}
RATES = {"constant": 0.05, "schedule": optax.cosine_decay_schedule(0.1, STEPS)}
"""Of each kind, made once, so that equal examples are the same optimiser."""


def check_alone(optimizer):
    """Under several masks at once: zeros where they prune, and the path of the kept weights alone."""
    index = jax.vmap(places)(jax.random.split(jax.random.key(1), 4))

    @jax.jit
    @jax.vmap
    def both(index):
        start = {name: PARAMS[name].ravel()[index[name]] for name in SHAPES}
        alone, _ = run(optimizer, start, lambda free: whole_loss(scattered(free, index)))
        pruned = train.pruned(optimizer, mask_at(index))
        path, _ = run(pruned, masks.apply(PARAMS, mask_at(index)), whole_loss)
        return path, jax.vmap(scattered, (0, None))(alone, index)

    for path, alone in zip(*map(jax.tree.leaves, both(index)), strict=True):
        assert ((path == 0) | (alone != 0)).all()
        np.testing.assert_allclose(path, alone, rtol=1e-9, atol=1e-12)


@given(base=st.sampled_from(list(BASES)), around=st.sampled_from(list(AROUND)), rate=st.sampled_from(list(RATES)))
@few(9)
def test_what_is_kept_trains_as_if_it_were_alone(base, around, rate):
    check_alone(AROUND[around](BASES[base](RATES[rate])))


@pytest.mark.parametrize("name", ["lbfgs", "accelerated"])
def test_line_searches_see_the_kept_weights_alone(name):
    check_alone({"lbfgs": optax.lbfgs(memory_size=3), "accelerated": optax.nadam(0.05)}[name])


def test_plain_adam_revives_what_was_pruned_and_pruned_adam_does_not():
    mask = mask_at(places(jax.random.key(0)))
    pruned = {name: ~np.asarray(leaf) for name, leaf in mask.items()}
    plain, _ = run(optax.adam(0.05), masks.apply(PARAMS, mask), whole_loss, steps=3)
    assert all((plain[name][-1][pruned[name]] != 0).all() for name in SHAPES)
    # Weights that are not zero at the start are zero from the first update on.
    ours, _ = run(train.pruned(optax.adam(0.05), mask), PARAMS, whole_loss, steps=3)
    fitted = train.fit(lambda params, x: params, lambda params, y: mean_square(params, X, y), PARAMS, (X, Y),
                       optax.adam(0.05), 3, mask=mask)  # fmt: skip
    for name in SHAPES:
        assert (np.asarray(ours[name])[:, pruned[name]] == 0).all()
        assert (ours[name][-1][~pruned[name]] != 0).all()
    started, _ = run(train.pruned(optax.adam(0.05), mask), masks.apply(PARAMS, mask), whole_loss, steps=3)
    jax.tree.map(lambda leaf, last: np.testing.assert_allclose(leaf[-1], last, rtol=1e-12), started, fitted.params)


@pytest.mark.parametrize("place", ["inside", "outside", "in a part", "in a chain"])
def test_where_the_wrapper_stands(place):
    """Inside of MultiSteps what is pruned waits for the first update that is made."""
    mask = mask_at(places(jax.random.key(0)))
    adam = optax.adamw(0.05, weight_decay=0.1)
    optimizer = {
        "inside": lambda: optax.MultiSteps(train.pruned(adam, mask), 3).gradient_transformation(),
        "outside": lambda: train.pruned(optax.MultiSteps(adam, 3).gradient_transformation(), mask),
        "in a part": lambda: optax.multi_transform({"fast": train.pruned(adam, mask), "slow": adam}, LABELS),
        "in a chain": lambda: optax.chain(optax.clip(0.1), train.pruned(adam, mask)),
    }[place]()
    path, state = run(optimizer, PARAMS, whole_loss)
    first = 2 if place == "inside" else 0
    for name in SHAPES:
        pruned = np.asarray(path[name])[:, ~np.asarray(mask[name])]
        if place == "in a part" and name == "second":
            assert (pruned != 0).all()
        else:
            assert (pruned[first:] == 0).all() and (pruned[:first] != 0).all()
    swapped = jax.tree.map(jnp.logical_not, mask)
    state = jax.jit(train.replace_mask)(state, swapped)
    last = jax.tree.map(lambda leaf: leaf[-1], path)
    path, _ = run(optimizer, last, whole_loss, state, steps=3)
    assert (path["first"][-1][mask["first"]] == 0).all() and (path["first"][-1][swapped["first"]] != 0).any()


@pytest.mark.parametrize("base", ["sgd", "rmsprop", "lamb"])
def test_another_mask_on_the_way(base):
    """As when the state of all weights that are not kept is made anew by hand: fresh where weights grow."""
    optimizer = BASES[base](0.05)
    keys = jax.random.split(jax.random.key(2))
    before, after = (mask_at(places(key)) for key in keys)
    pruned = train.pruned(optimizer, before)
    path, state = run(pruned, masks.apply(PARAMS, before), whole_loss)
    params = jax.tree.map(lambda leaf: leaf[-1], path)

    both = jax.tree.map(jnp.logical_and, before, after)

    def of_weights(part):
        return isinstance(part, dict)

    def forget(part):
        return masks.apply(part, both) if of_weights(part) else part

    by_hand = jax.tree.map(forget, state.inner, is_leaf=of_weights)
    if base == "rmsprop":  # its mean of squares starts at one
        ones = optimizer.init(params)[0]
        by_hand = (ones._replace(nu=jax.tree.map(jnp.where, both, by_hand[0].nu, ones.nu)), *by_hand[1:])
    by_hand = train.PrunedState(by_hand, after)
    expected, _ = run(train.pruned(optimizer, after), masks.apply(params, after), whole_loss, by_hand, steps=3)
    found, _ = run(pruned, masks.apply(params, after), whole_loss, train.replace_mask(state, after), steps=3)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15), found, expected)


def test_ten_numbers_of_the_optimiser_are_not_ten_weights():
    """L-BFGS keeps ten numbers of its own beside a bare vector of ten weights."""
    mask = jnp.arange(10) % 3 != 0

    def loss(weights):
        return jnp.mean((X[:, : len(weights)] @ weights - Y) ** 2) + jnp.mean(weights**4)

    def kept_loss(free):
        return loss(jnp.zeros(10).at[jnp.flatnonzero(mask, size=6)].set(free))

    optimizer = optax.lbfgs(memory_size=10)
    path, _ = run(train.pruned(optimizer, mask), jnp.zeros(10), loss)
    alone, _ = run(optimizer, jnp.zeros(6), kept_loss)
    assert (path[:, ~mask] == 0).all()
    np.testing.assert_allclose(path[:, mask], alone, rtol=1e-8)


def test_pruned_once_more_both_masks_keep():
    """On a bare vector, of which the inner mask has the shape: the ten numbers of L-BFGS are told apart."""
    once, again = jnp.arange(10) % 3 != 0, jnp.arange(10) % 4 != 0
    both, params = once & again, X[0]

    def loss(weights):
        return jnp.mean((X @ weights - Y) ** 2) + jnp.mean(weights**4)

    for optimizer in (optax.adam(0.1), optax.lbfgs(memory_size=10)):
        nested = train.pruned(optax.chain(train.pruned(optimizer, once)), again)
        path, state = run(nested, masks.apply(params, both), loss)
        expected, _ = run(train.pruned(optimizer, both), masks.apply(params, both), loss)
        assert (path[:, ~both] == 0).all()
        np.testing.assert_allclose(path, expected, rtol=1e-8, atol=1e-12)
    other = train.replace_mask(state, ~both)
    assert (other.mask == ~both).all() and (other.inner[0].mask == ~both).all()


def test_the_optimiser_sees_zeros_where_the_mask_prunes():
    """Also in what comes with the gradient, and at the first update."""
    mask, seen = mask_at(places(jax.random.key(3))), []

    def update(updates, state, params, **extra):
        seen.extend([updates, params, extra["grad"]])
        return updates, state

    optimizer = train.pruned(optax.GradientTransformationExtraArgs(lambda params: seen.append(params), update), mask)
    optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS, grad=PARAMS)
    assert len(seen) >= 4
    for tree in seen:
        jax.tree.map(np.testing.assert_array_equal, tree, masks.apply(PARAMS, mask))


def test_a_sketch_says_what_is_kept_and_scales_nothing():
    mask = mask_at(places(jax.random.key(3)))
    sketch = jax.tree.map(lambda leaf: 2.5 * leaf, mask)
    paths = [run(train.pruned(optax.adam(0.1), each), PARAMS, whole_loss)[0] for each in (mask, sketch)]
    jax.tree.map(np.testing.assert_array_equal, *paths)


def test_leaves_that_are_not_floating_are_left_alone():
    params = PARAMS | {"count": jnp.int32(3), "key": jax.random.key(0), "nothing": None}
    mask = mask_at(places(jax.random.key(0))) | {"count": jnp.array(True), "key": jnp.array(True), "nothing": None}
    optimizer = train.pruned(optax.sgd(0.1), mask)
    state = optimizer.init(params)
    updates = PARAMS | {"count": jnp.int32(0), "key": jnp.int32(0), "nothing": None}
    found, _ = optimizer.update(updates, state, params)
    assert found["count"] == 0 and found["nothing"] is None
    assert ((params["second"] + found["second"] == 0) == ~mask["second"]).all()


def test_checkpoints_hold_the_mask(tmp_path):
    mask = mask_at(places(jax.random.key(0)))
    optimizer = optax.MultiSteps(train.pruned(optax.adam(0.05), mask), 2).gradient_transformation()
    path, state = run(optimizer, PARAMS, whole_loss, steps=3)
    last = jax.tree.map(lambda leaf: leaf[-1], path)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        # Another mask in the target: what counts is the one that was saved.
        target = optimizer.init(PARAMS)
        restored = checkpointer.restore(
            tmp_path / "state", train.replace_mask(target, jax.tree.map(jnp.ones_like, mask))
        )
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    ends = [run(optimizer, last, whole_loss, each, steps=3)[0] for each in (state, restored)]
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_samples_over_eight_devices():
    """Each device has a sample; parameters, state and mask are on all of them."""
    mask = mask_at(places(jax.random.key(0)))
    optimizer = train.pruned(optax.adam(0.05), mask)
    devices = jax.make_mesh((8,), ("samples",), axis_types=(jax.sharding.AxisType.Auto,))

    @jax.jit
    @functools.partial(
        jax.shard_map, mesh=devices, in_specs=(P(), P(), P("samples"), P("samples")), out_specs=P(), check_vma=False
    )
    def step(params, state, x, y):
        gradient = jax.lax.pmean(jax.grad(mean_square)(params, x, y), "samples")
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(3):
        params, state = step(params, state, X, Y)
    expected, _ = run(optimizer, PARAMS, whole_loss, steps=3)
    jax.tree.map(lambda leaf, all: np.testing.assert_allclose(leaf, all[-1], rtol=1e-9, atol=1e-12), params, expected)
    assert all((params[name][~mask[name]] == 0).all() for name in SHAPES)


def test_a_state_that_is_donated_takes_no_mask_of_the_caller_with_it():
    mask = mask_at(places(jax.random.key(0)))
    optimizer = train.pruned(optax.sgd(0.1), mask)
    update = jax.jit(optimizer.update, donate_argnums=1)
    update(PARAMS, optimizer.init(PARAMS), PARAMS)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(mask))


MASK = mask_at(places(jax.random.key(0)))
PRUNED = train.pruned(optax.sgd(0.1), MASK)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train.pruned(optax.sgd(0.1), MASK | {"second": -jnp.ones(4)}),
         r"mask\['second'\] has the entry -1.0; it takes booleans, or finite numbers >= 0"),
        (lambda: train.pruned(optax.sgd(0.1), jnp.array([jnp.nan])), "mask has the entry nan"),
        (lambda: train.pruned(optax.sgd(0.1), MASK | {"second": jnp.ones(3)}).init(PARAMS),
         r"mask\['second'\] has shape \(3,\); it takes params' \(4,\)"),
        (lambda: train.pruned(optax.sgd(0.1), {"first": MASK["first"]}).init(PARAMS), "takes the structure of params"),
        (lambda: PRUNED.update(PARAMS, PRUNED.init(PARAMS)), "params is None; it takes the parameters"),
        (lambda: train.replace_mask(optax.adam(0.1).init(PARAMS), MASK), "state has no mask; it takes the state of"),
        (lambda: train.pruned("sgd", MASK), "optimizer is 'sgd'; it takes a GradientTransformation"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
