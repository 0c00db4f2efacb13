"""Training inside a source mask: what holds for every method that finds a mask there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sketchprune import masks, train
from tests.support import taken, without_type_checks
from tests.support.ticket_networks import (
    EVERY,
    KEEP,
    METHODS,
    OPTIMIZER,
    STEPS,
    counts,
    mean_square,
    network,
    problem,
)
from tests.train.test_loops import OPTIMIZERS

KEY = jax.random.key(3)
KEEPS = [[12, 9], [12, 5], [8, 7]]
"""For two rounds of each of three seeds."""


def recorded(seen):
    """The network, which writes down the weights of each evaluation."""

    def apply(params, x):
        jax.debug.callback(lambda params: seen.append(jax.tree.map(np.asarray, params)), params, ordered=True)
        return network(params, x)

    return apply


@functools.cache
def outcome(name):
    """The ticket of one method, the weights before each of its steps, and what it was made from."""
    given = problem()
    seen = []
    ticket = METHODS[name](recorded(seen), *given, OPTIMIZER, STEPS, key=KEY)
    jax.block_until_ready(ticket)
    jax.effects_barrier()
    return ticket, seen, given


@pytest.mark.parametrize("name", METHODS)
def test_nothing_outside_the_source_is_ever_used(name):
    """Entry by entry, at every step. A published search indexes its mask by channel, which leaves most of it in use."""
    ticket, seen, (_, source, _, _) = outcome(name)
    assert len(seen) == len(ticket.losses)
    for params in [*seen, ticket.params, ticket.mask]:
        for leaf in ("first", "second"):
            assert (np.asarray(params[leaf])[~np.asarray(source[leaf])] == 0).all()
    assert all(leaf.any(0).all() for leaf in (source["first"], source["second"]))  # by channel it would forbid nothing
    assert (ticket.params["bias"] != problem()[0]["bias"]).all()  # what is never pruned trains


def test_scores_below_zero_stay_inside_the_source():
    """Descent makes all scores of the source negative; outside of it they are 0, and may not be used all the same."""
    data, source = (jnp.eye(4), jnp.full(4, -8.0)), jnp.array([True, False, True, True])
    ticket = train.edge_popup(
        lambda w, x: x @ w, mean_square, jnp.ones(4), data, optax.sgd(1.0), 5, keep=2, mask=source, key=KEY
    )
    assert ticket.mask.sum() == 2 and not (ticket.mask & ~source).any()
    assert jnp.count_nonzero(ticket.params) == 2
    np.testing.assert_allclose(ticket.losses, mean_square(jnp.array([1.0, 0.0, 1.0, 0.0]), data[1]))  # two at each step


@pytest.mark.parametrize("name", METHODS)
def test_counts_are_exact_at_every_step(name):
    ticket, seen, (_, source, start, _) = outcome(name)
    used = [sum(counts(params).values()) for params in seen]
    total = sum(counts(source).values())
    assert sum(counts(ticket.mask).values()) == KEEP
    expected = {
        "edge-popup": [KEEP] * STEPS,
        "iterative": [total] * STEPS + [20] * STEPS + [KEEP] * STEPS,
        "continued": [total] * STEPS + [20] * STEPS + [KEEP] * STEPS,
        "rewound": [total] * STEPS + [20] * (STEPS - 3) + [KEEP] * (STEPS - 3),
        "gradual": [total] * EVERY + [16] * EVERY + [KEEP] * (STEPS - 2 * EVERY),
    }
    if name in expected:
        assert used == expected[name]
    else:  # a weight that has just grown is zero until the next step
        by_layer = counts(start)
        assert counts(ticket.mask) == by_layer
        grown = [step % EVERY == 1 and step > 1 for step in range(STEPS)]
        assert min(used) < KEEP == max(used)
        if name == "rigl":  # what grows at random may have no gradient, and stay zero for longer
            assert all(counts(params) == by_layer for params, new in zip(seen, grown, strict=True) if not new)
    jax.tree.map(np.testing.assert_array_equal, ticket.params, masks.apply(ticket.params, ticket.mask))
    assert {leaf.dtype for leaf in jax.tree.leaves(ticket.mask)} == {np.dtype(bool)}


@pytest.mark.parametrize("name", ["iterative", "continued", "rewound", "gradual"])
def test_magnitude_masks_are_nested(name):
    _, seen, _ = outcome(name)
    for before, after in zip(seen, seen[1:], strict=False):
        for leaf in ("first", "second"):
            assert not ((after[leaf] != 0) & (before[leaf] == 0)).any()


@pytest.mark.parametrize(
    ("name", "optimizer"), [("iterative", "lbfgs"), ("gradual", "nesterov"), ("rigl", "adagrad"), ("rigl", "noisy")]
)
def test_no_optimiser_revives_a_weight(name, optimizer):
    given = problem()
    ticket = METHODS[name](network, *given, OPTIMIZERS[optimizer], 4, key=KEY)
    assert sum(counts(ticket.mask).values()) == KEEP
    for leaf in ("first", "second"):
        assert (np.asarray(ticket.params[leaf])[~np.asarray(ticket.mask[leaf])] == 0).all()
    assert np.isfinite(ticket.losses).all()


@pytest.mark.parametrize("name", METHODS)
def test_seeds_sources_and_counts_under_vmap_and_jit_are_the_loop(name):
    """With batches, so that keys count; and with traced counts, of which the first mask is one."""
    options = {"edge-popup": {"keep": [9, 5, 7]}, "rigl": {}, "evolutionary": {}}.get(name, {"keeps": KEEPS})
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(problem(seed) for seed in range(3)))
    given = jax.random.split(KEY, 3), jax.tree.map(jnp.array, options, is_leaf=lambda value: type(value) is list), stack

    def run(key, options, problem):
        return METHODS[name](network, *problem, OPTIMIZER, 5, key=key, batch_size=8, **options)

    together = jax.jit(jax.vmap(run))(*given)
    for i in range(3):
        alone = run(*taken(given, i))
        close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
        jax.tree.map(close, taken(together, i), alone)
        assert sum(counts(alone.mask).values()) == ([9, 5, 7][i] if options else KEEP)
    assert (together.losses[0] != together.losses[1]).any()


@pytest.mark.parametrize("name", METHODS)
def test_no_steps(name):
    params, source, start, data = problem()
    if name == "gradual":
        with pytest.raises(ValueError, match="steps is 0; it takes at least 2, where the last round of keeps is"):
            train.gradual_magnitude(network, mean_square, params, data, OPTIMIZER, 0, keeps=[3], every=2)
        return
    options = {"rewind": 0} if name == "rewound" else {}
    ticket = METHODS[name](network, params, source, start, data, OPTIMIZER, 0, key=KEY, **options)
    assert ticket.losses.shape == (0,) and sum(counts(ticket.mask).values()) == KEEP
    jax.tree.map(np.testing.assert_array_equal, ticket.params, masks.apply(params, ticket.mask))
    if name in ("iterative", "rewound", "continued"):
        size = np.sort(np.concatenate([abs(masks.apply(params, source)[leaf]).ravel() for leaf in ("first", "second")]))
        assert min(abs(ticket.params[leaf][ticket.mask[leaf]]).min() for leaf in ("first", "second")) == size[-KEEP]


@pytest.mark.parametrize("name", ["edge-popup", "iterative", "gradual", "rigl"])
def test_what_diverges_is_seen(name):
    """Also where it is the last step before weights are dropped."""
    params, source, start, data = problem()
    with without_type_checks():  # the callable step size is no number
        diverging = optax.sgd(lambda count: jnp.where(count >= 2, jnp.nan, 0.01))
    options = {"gradual": {"keeps": [20, KEEP], "every": 1}}.get(name, {})
    steps = 5 if name == "rigl" else 3  # two of the five change the mask alone
    ticket = METHODS[name](network, params, source, start, data, diverging, steps, key=KEY, **options)
    assert np.isnan(np.concatenate([ticket.params[leaf].ravel() for leaf in ("first", "second")])).any()
    assert sum(counts(ticket.mask).values()) == KEEP


def test_rewinding_does_not_undo_a_nan():
    """With the whole source the loss is finite and its gradient is not; later trainings are sound by themselves."""

    def fragile(params, x):
        whole = sum(jnp.sum(params[leaf] != 0) for leaf in ("first", "second")) > 20
        nothing = 0 * jnp.sum(params["first"] ** 2)
        return network(params, x) + jnp.sqrt(jnp.where(whole, nothing, 1 + nothing))

    ticket = METHODS["iterative"](fragile, *problem(), optax.sgd(0.01), 1, key=KEY)
    assert np.isfinite(ticket.losses[0]) and np.isnan(ticket.losses[1:]).all() and np.isnan(ticket.params["bias"]).all()
    assert sum(counts(ticket.mask).values()) == KEEP


def test_what_is_never_pruned_is_as_in_the_source():
    """Whatever the first mask says of it, before and after the mask changes."""
    params, source, first, data = problem()
    first = first | {"bias": jnp.zeros(6, bool)}
    source = source | {"bias": source["bias"].at[2].set(False)}
    ticket = METHODS["rigl"](network, params, source, first, data, OPTIMIZER, 4, key=KEY)
    np.testing.assert_array_equal(ticket.mask["bias"], source["bias"])
    np.testing.assert_array_equal(ticket.params["bias"] != 0, source["bias"])


@pytest.mark.parametrize("name", ["edge-popup", "iterative", "gradual", "rigl", "evolutionary"])
def test_which_leaves_may_be_pruned_can_be_chosen(name):
    """The last layer stays dense, and biases are pruned together with the first."""
    params, source, start, data = problem()
    start = start | {"bias": start["bias"].at[:2].set(False)}
    options = {"edge-popup": {"keep": 5}, "rigl": {}, "evolutionary": {}}.get(name, {"keeps": [12, 5]})
    choice = {"prunable": lambda path: path != "['second']"}
    ticket = METHODS[name](network, params, source, start, data, OPTIMIZER, 5, key=KEY, **choice, **options)
    np.testing.assert_array_equal(ticket.mask["second"], source["second"])
    assert (ticket.params["second"] != params["second"]).all()  # it is trained, and zero outside the source
    kept = [int(ticket.mask[leaf].sum()) for leaf in ("bias", "first")]
    if options:
        assert sum(kept) == 5 and kept[0] < 6
    else:
        assert kept == [4, int(start["first"].sum())]
        assert (ticket.mask["bias"] != start["bias"]).any() or (ticket.mask["first"] != start["first"]).any()
    jax.tree.map(np.testing.assert_array_equal, ticket.params, masks.apply(ticket.params, ticket.mask))


def test_dtypes_are_kept():
    given = jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf.astype(jnp.float32), problem())
    for name, method in METHODS.items():
        ticket = jax.eval_shape(lambda given, method=method: method(network, *given, OPTIMIZER, 4, key=KEY), given)
        assert {leaf.dtype for leaf in jax.tree.leaves((ticket.params, ticket.losses))} == {np.dtype("float32")}, name


PARAMS, SOURCE, START, DATA = problem()
TOTAL = sum(counts(SOURCE).values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("edge-popup", {"keep": TOTAL + 1}, f"keep is {TOTAL + 1}; it takes at most {TOTAL}, the number of weights"),
        ("edge-popup", {"keep": 7, "prunable": lambda path: path == "['bias']"}, "keep is 7; it takes at most 6"),
        ("gradual", {"keeps": [7], "prunable": lambda path: path == "['bias']"}, "keeps is .*; it takes .* above 6"),
        ("edge-popup", {"keep": -1}, "keep is -1; it takes a whole number >= 0"),
        ("edge-popup", {"keep": {"bias": 0, "first": 1, "second": 19}}, r"keep\['second'\] is 19; it takes at most"),
        ("edge-popup", {"keep": {"first": 1}}, r"keep has no leaf \['bias'\]; it takes the structure of params"),
        ("edge-popup", {"key": None}, "key is None; it takes a key, since the first scores are drawn"),
        ("evolutionary", {"key": None}, "key is None; it takes a key, since what grows is drawn"),
        ("iterative", {"keeps": [TOTAL + 1, 3]}, f"keeps is .*; it takes counts that do not grow.* none above {TOTAL}"),
        ("iterative", {"keeps": [3, 4]}, "keeps is .*; it takes counts that do not grow"),
        ("iterative", {"keeps": []}, "keeps is .*; it takes"),
        ("iterative", {"rewind": STEPS + 1}, f"rewind is {STEPS + 1}; it takes a whole number from 0 to {STEPS}"),
        ("gradual", {"every": 0}, "every is 0; it takes a whole number >= 1"),
        ("gradual", {"every": 5}, f"steps is {STEPS}; it takes at least 10, where the last round of keeps is"),
        ("gradual", {"begin": 6}, f"steps is {STEPS}; it takes at least 10, where the last round of keeps is"),
        ("gradual", {"begin": -1}, "begin is -1; it takes a whole number >= 0"),
        ("rigl", {"every": 0}, "every is 0; it takes a whole number >= 1"),
        ("rigl", {"until": STEPS + 1}, f"until is {STEPS + 1}; it takes a whole number from 0 to {STEPS}"),
        ("rigl", {"fraction": 1.5}, r"fraction is 1.5; it takes a number in \[0, 1\]"),
        ("rigl", {"start": {"first": START["first"]}}, r"mask has no leaf \['bias'\]; it takes the structure"),
        (
            "rigl",
            {"start": jax.tree.map(jnp.ones_like, START)},
            f"start keeps {42 - TOTAL} weights outside mask; it takes a mask inside it",
        ),
        *((name, {"prunable": lambda path: False}, "prunable chooses none of the leaves") for name in METHODS),
        ("rigl", {"prunable": [True]}, "prunable has no leaf .*; it takes the structure of params, or a function"),
        *((name, {"mask": {"first": SOURCE["first"]}}, "mask has no leaf .*; it takes the") for name in METHODS),
        *((name, {"batch_size": 21}, "batch_size is 21; it takes 1 to 20") for name in METHODS),
        *((name, {"steps": -1}, "steps is -1; it takes a whole number >= 0") for name in METHODS),
    ],
)
def test_bad_input(name, options, message):
    steps, source = options.pop("steps", STEPS), options.pop("mask", SOURCE)
    options = {"key": KEY} | options
    with pytest.raises(ValueError, match=message):
        METHODS[name](network, PARAMS, source, START, DATA, OPTIMIZER, steps, **options)
