"""Training inside a source mask, against the procedures written as loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sketchprune import prune, train
from tests.support.ticket_networks import EVERY, KEEP, STEPS, counts, mean_square, network, problem

RATE, MOMENTUM = 0.3, 0.9
MOMENTUM_SGD = optax.sgd(RATE, momentum=MOMENTUM)
KEY = jax.random.key(3)
PARAMS, SOURCE, FIRST, DATA = jax.tree.map(np.asarray, problem())
LAYERS = ("first", "second")


@jax.jit
def value_and_gradient(params):
    return jax.value_and_grad(lambda params: mean_square(network(params, DATA[0]), DATA[1]))(params)


def times(params, mask):
    return {name: params[name] * mask[name] for name in params}


FAN_IN = {"bias": 1, "first": 4, "second": 6}


def largest(values, keep, inside):
    """The mask of the largest values inside another one, by sorting."""
    flat, usable = (np.concatenate([tree[name].ravel() for name in LAYERS]) for tree in (values, inside))
    order = np.argsort(-np.where(usable, flat, -np.inf), kind="stable")
    kept = np.zeros(flat.size, bool)
    kept[order[:keep]] = True
    sizes = [values[name].size for name in LAYERS]
    parts = np.split(kept, np.cumsum(sizes)[:-1])
    return inside | {name: part.reshape(values[name].shape) for name, part in zip(LAYERS, parts, strict=True)}


class Descent:
    """Gradient descent with momentum on the weights of a mask."""

    def __init__(self, params, velocity):
        self.params, self.velocity = params, velocity

    @classmethod
    def begin(cls, params):
        return cls(params, {name: np.zeros_like(leaf) for name, leaf in params.items()})

    def restrict(self, mask):
        return Descent(times(self.params, mask), times(self.velocity, mask))

    def step(self, mask):
        """The loss before the step, and what comes after it."""
        value, gradient = value_and_gradient(self.params)
        gradient = times(jax.tree.map(np.asarray, gradient), mask)
        velocity = {name: MOMENTUM * self.velocity[name] + gradient[name] for name in gradient}
        params = {name: self.params[name] - RATE * velocity[name] for name in velocity}
        return float(value), Descent(params, velocity)


def assert_ticket(ticket, params, mask, losses):
    np.testing.assert_allclose(ticket.losses, losses, rtol=1e-10)
    for name in params:
        np.testing.assert_array_equal(ticket.mask[name], mask[name])
        np.testing.assert_allclose(ticket.params[name], params[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rewind", [0, 3, None])
def test_iterative_magnitude_is_its_loop(rewind):
    """Rewound to the weights and to the velocity of step 3; and with the velocity of pruned weights forgotten."""
    keeps, mask, losses = [20, KEEP], SOURCE, []
    now = saved = Descent.begin(times(PARAMS, SOURCE))
    for level in range(len(keeps) + 1):
        begin = 0
        if level:
            mask = largest({name: abs(now.params[name]) for name in now.params}, keeps[level - 1], mask)
            begin = rewind or 0
            now = (now if rewind is None else saved).restrict(mask)
        for step in range(begin, STEPS):
            if level == 0 and step == rewind:
                saved = now
            value, now = now.step(mask)
            losses.append(value)
    ticket = train.iterative_magnitude(
        network, mean_square, PARAMS, DATA, MOMENTUM_SGD, STEPS, keeps=keeps, rewind=rewind, mask=SOURCE
    )
    assert_ticket(ticket, now.params, mask, losses)


def test_rewinding_goes_back_to_the_same_batches():
    """As fits that go on from each other's state do, whatever the batches of a step are."""
    options = {"key": KEY, "batch_size": 6}
    rewind, steps = 4, 7
    early = train.fit(network, mean_square, PARAMS, DATA, MOMENTUM_SGD, rewind, mask=SOURCE, **options)

    def rest(mask):
        going_on = {"mask": mask, "state": early.state} | options
        return train.fit(network, mean_square, early.params, DATA, MOMENTUM_SGD, steps - rewind, **going_on)

    first = rest(SOURCE)
    mask = largest({name: abs(np.asarray(leaf)) for name, leaf in first.params.items()}, KEEP, SOURCE)
    last = rest(mask)
    ticket = train.iterative_magnitude(
        network, mean_square, PARAMS, DATA, MOMENTUM_SGD, steps, keeps=[KEEP], rewind=rewind, mask=SOURCE, **options
    )
    assert_ticket(ticket, last.params, mask, np.concatenate([early.losses, first.losses, last.losses]))


def test_gradual_magnitude_is_its_loop():
    """With the cubic schedule from the source; before and after the ramp it is plain training."""
    total = sum(counts(SOURCE).values())
    keeps = prune.cubic_schedule(total, KEEP, 3)
    begin, steps = 1, 10
    due = dict(zip(range(begin + EVERY, begin + 4 * EVERY, EVERY), keeps.tolist(), strict=True))
    now, mask, losses = Descent.begin(times(PARAMS, SOURCE)), SOURCE, []
    for taken in range(1, steps + 1):
        value, now = now.step(mask)
        losses.append(value)
        if taken in due:
            mask = largest({name: abs(now.params[name]) for name in now.params}, due[taken], mask)
            now = now.restrict(mask)
    ticket = train.gradual_magnitude(
        network, mean_square, PARAMS, DATA, MOMENTUM_SGD, steps, keeps=keeps, every=EVERY, begin=begin, mask=SOURCE
    )
    assert_ticket(ticket, now.params, mask, losses)
    nothing = train.gradual_magnitude(
        network, mean_square, PARAMS, DATA, MOMENTUM_SGD, 5, keeps=[total], every=5, mask=SOURCE, key=KEY, batch_size=6
    )
    plain = train.fit(network, mean_square, PARAMS, DATA, MOMENTUM_SGD, 5, mask=SOURCE, key=KEY, batch_size=6)
    np.testing.assert_array_equal(nothing.losses, plain.losses)


def test_the_cubic_schedule_has_the_published_counts():
    """s_t = s_f + (s_i − s_f)(1 − (t − t_0)/(nΔt))³ for the fraction removed, in exact arithmetic."""
    start, keep, rounds = 1000, 50, 8
    removed = [(start - keep) * (1 - (1 - r / rounds) ** 3) for r in range(1, rounds + 1)]
    found = prune.cubic_schedule(start, keep, rounds)
    assert found.tolist() == [round(start - each) for each in removed] == [686, 451, 282, 169, 100, 65, 52, 50]
    by_layer = prune.cubic_schedule({"a": 1000, "b": 10, "bias": 0}, {"a": 50, "b": 10, "bias": 0}, rounds)
    assert by_layer["a"].tolist() == found.tolist()
    assert by_layer["b"].tolist() == [10] * rounds and by_layer["bias"].tolist() == [0] * rounds


TWO_OPTIMISERS = optax.multi_transform(
    {"a": MOMENTUM_SGD, "b": optax.sgd(RATE, momentum=MOMENTUM)}, {"first": "a", "second": "b", "bias": "b"}
)
"""The same steps, by an optimiser for each group of weights: its state has placeholders for the other group."""


@pytest.mark.parametrize("optimizer", [MOMENTUM_SGD, TWO_OPTIMISERS], ids=["one", "two"])
def test_rigl_is_its_loop(optimizer):
    """Layer by layer: drop the smallest weights, grow the largest gradients of the source, forget what has gone."""
    fraction, until, steps = 0.5, 7, 9
    now, mask, losses = Descent.begin(times(PARAMS, FIRST)), FIRST, []
    changed = 0
    for step in range(steps):
        if not step or step % EVERY or step >= until:
            value, now = now.step(mask)
            losses.append(value)
            continue
        value, gradient = value_and_gradient(now.params)
        losses.append(float(value))
        found = dict(mask)
        for name in LAYERS:
            kept = int(mask[name].sum())
            replaced = int(np.rint(fraction / 2 * (1 + np.cos(np.pi * step / until)) * kept))
            size = np.where(mask[name], abs(now.params[name]), -np.inf).ravel()
            stays = np.zeros(size.size, bool)
            stays[np.argsort(-size, kind="stable")[: kept - replaced]] = True
            slope = np.where(SOURCE[name].ravel() & ~stays, abs(np.asarray(gradient[name])).ravel(), -np.inf)
            stays[np.argsort(-slope, kind="stable")[:replaced]] = True
            found[name] = stays.reshape(mask[name].shape)
            changed += int((found[name] & ~mask[name]).sum())
        now, mask = now.restrict({name: found[name] & mask[name] for name in found}), found
    ticket = train.rigl(
        network,
        mean_square,
        PARAMS,
        DATA,
        optimizer,
        steps,
        start=FIRST,
        every=EVERY,
        until=until,
        fraction=fraction,
        mask=SOURCE,
    )
    assert changed > 3
    assert_ticket(ticket, now.params, mask, losses)


def test_evolution_grows_uniformly_among_what_is_not_in_use():
    """The dropped weights are the smallest; what grows is any other weight of the source, each as often."""
    weights = jnp.array([5.0, 4.0, 0.1, 3.0, 0.0, 0.0, 0.0, 0.0])
    start = jnp.array([True, True, True, True, False, False, False, False])
    source = start.at[jnp.array([4, 5, 6])].set(True)  # the last weight is outside
    data = (jnp.eye(8), jnp.zeros(8))
    still = optax.sgd(0.0)

    def evolve(key):
        options = {"start": start, "every": 1, "until": 2, "fraction": 0.25, "mask": source, "key": key}
        return train.sparse_evolutionary(lambda w, x: x @ w, mean_square, weights, data, still, 2, **options).mask

    draws = 400
    found = np.asarray(jax.jit(jax.vmap(evolve))(jax.random.split(KEY, draws)))
    assert (found.sum(1) == 4).all()
    assert found[:, [0, 1, 3]].all() and not found[:, 7].any()
    share = found[:, [2, 4, 5, 6]].mean(0)  # the one that was dropped may come back
    assert (abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / draws)).all()


def test_edge_popup_is_its_loop():
    """Scores move by the loss's derivative in the mask, all of the source; weights do not move."""
    keep, steps = KEEP, 7
    untouched = train.edge_popup(network, mean_square, PARAMS, DATA, MOMENTUM_SGD, 0, keep=keep, mask=SOURCE, key=KEY)
    frozen = times(PARAMS, SOURCE)
    scores = first_scores()
    assert_ticket(
        untouched,
        frozen | times(frozen, largest(ranks(scores), keep, SOURCE)),
        largest(ranks(scores), keep, SOURCE),
        [],
    )
    now = Descent.begin(times(scores, SOURCE) | {"bias": PARAMS["bias"]})
    losses = []
    for _ in range(steps):
        mask = largest(ranks(now.params), keep, SOURCE)
        value, gradient = value_and_gradient(times(frozen, mask) | {"bias": now.params["bias"]})
        losses.append(float(value))
        straight = {name: np.asarray(gradient[name]) * frozen[name] for name in LAYERS}
        straight["bias"] = np.asarray(gradient["bias"])
        velocity = {name: MOMENTUM * now.velocity[name] + straight[name] for name in straight}
        now = Descent({name: now.params[name] - RATE * velocity[name] for name in straight}, velocity)
    mask = largest(ranks(now.params), keep, SOURCE)
    ticket = train.edge_popup(network, mean_square, PARAMS, DATA, MOMENTUM_SGD, steps, keep=keep, mask=SOURCE, key=KEY)
    assert_ticket(ticket, times(frozen, mask) | {"bias": now.params["bias"]}, mask, losses)
    assert any((mask[name] != untouched.mask[name]).any() for name in LAYERS)


def ranks(scores):
    """Scores in units of 1/√fan-in, in which layers compete."""
    return {name: scores[name] * FAN_IN[name] ** 0.5 for name in scores}


def test_layers_of_any_fan_in_start_with_one_density_in_edge_popup():
    """First scores of a wide layer are small numbers; one count for all layers must not empty it."""
    params = {"narrow": jnp.ones((4, 500)), "wide": jnp.ones((1000, 2))}
    data = (jnp.zeros((1, 4)), jnp.zeros((1, 2)))

    def network(params, x):
        return x @ params["narrow"][:, :2] + 0 * params["wide"].sum()

    ticket = train.edge_popup(network, mean_square, params, data, MOMENTUM_SGD, 0, keep=400, key=KEY)
    kept = {name: int(leaf.sum()) for name, leaf in ticket.mask.items()}
    assert sum(kept.values()) == 400
    assert abs(kept["narrow"] - 200) < 5 * np.sqrt(400 / 4)


def first_scores():
    """Uniform on [0, 1/√fan-in), as the documentation says."""
    score_key, _ = jax.random.split(KEY)
    keys = dict(zip(sorted(PARAMS), jax.random.split(score_key, len(PARAMS)), strict=True))
    return {
        name: np.asarray(jax.random.uniform(keys[name], leaf.shape)) * FAN_IN[name] ** -0.5
        for name, leaf in PARAMS.items()
    }


def test_edge_popup_takes_counts_by_layer():
    keep = {"bias": 0, "first": 3, "second": 5}
    ticket = train.edge_popup(network, mean_square, PARAMS, DATA, MOMENTUM_SGD, 3, keep=keep, mask=SOURCE, key=KEY)
    assert counts(ticket.mask) == {"first": 3, "second": 5}
