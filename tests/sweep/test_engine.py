"""A sweep does what pruning, training and testing each network alone does."""

import functools
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from sketchprune import masks, models, prune, scores, sweep, train
from sketchprune.data import Dataset
from sketchprune.sweep import engine
from tests.support import without_type_checks
from tests.support.sweeps import DENSITIES, METHODS, SEEDS, erk, features, refusing, rows_of, small_problem, timeless


@pytest.fixture(autouse=True)
def groups_of_four(monkeypatch):
    monkeypatch.setattr(engine, "_LARGEST_GROUP", 4)


@functools.cache
def whole():
    """Every run of the small sweep."""
    return tuple(rows_of(sweep.run(small_problem(), METHODS, DENSITIES, SEEDS)))


def measured(params, x, y):
    """The mean loss and the accuracy of the small network, in NumPy."""
    (bias, kernel), (last_bias, last_kernel) = (
        [np.float64(each) for each in layer.values()] for layer in params.values()
    )
    outputs = np.maximum(np.asarray(x) @ kernel + bias, 0) @ last_kernel + last_bias
    return mean_loss(outputs, y), np.mean(outputs.argmax(1) == y)


def mean_loss(outputs, y):
    return float(
        np.mean(special.logsumexp(outputs, axis=1) - np.asarray(outputs)[np.arange(len(outputs)), np.asarray(y)])
    )


def alone(row):
    """The same run without the engine: realised density, final training loss and test accuracy."""
    problem = small_problem()
    train_set, test_set = features(30, 0), features(20, 1)
    mean, deviation = train_set.x.mean(0), train_set.x.std(0)
    x, x_test = (np.float32((each.x - mean) / deviation) for each in (train_set, test_set))
    y = train_set.y.astype(np.int32)
    weight_key, batch_key, mask_key, sample_key = jax.random.split(jax.random.key(row.seed), 4)
    apply, params = models.initial(models.mlp(5, 3), weight_key, x)
    scored = np.asarray(jax.random.permutation(sample_key, 30))
    key = jax.random.fold_in(mask_key, zlib.crc32(f"{row.run.method} {row.density!r}".encode()))
    options = {"params": params, "batch": (x[scored], y[scored]), "key": key}
    keep = prune.count(params, row.density)
    if row.score == "dense":
        mask = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)
    elif row.run.method == "magnitude, top, 3 rounds":
        counts = prune.exponential_schedule(35, keep, 3)
        mask = prune.iterative(scores.magnitude, apply, train.cross_entropy, keeps=counts, **options)
    elif row.sampler:
        options["sampler"] = sweep.SAMPLERS[row.sampler]
        mask = prune.one_shot(scores.SCORES[row.score], apply, train.cross_entropy, keep=keep, **options)
    else:
        method = next(each for each in METHODS if each.score == row.score)
        mask = method.draw(apply, train.cross_entropy, params, options["batch"], row.density, key)
    trained, _ = train.fit(
        apply, train.cross_entropy, masks.apply(params, mask), (x, y), problem.optimizer, 12,
        mask=mask, key=batch_key, batch_size=8,
    )  # fmt: skip
    kept = [np.count_nonzero(leaf["kernel"]) for leaf in mask.values()]
    return sum(kept) / 35, measured(trained, x, y)[0], measured(trained, x_test, test_set.y)[1], 0 in kept


@pytest.mark.parametrize("method", ["dense", *(method.label for method in METHODS)])
def test_a_run_is_the_network_pruned_and_trained_alone(method):
    rows = [row for row in whole() if row.run.method == method and row.seed == 3]
    assert [row.density for row in rows] == ([1.0] if method == "dense" else [0.5, 0.2])
    for row in rows:
        density, loss, accuracy, empty = alone(row)
        assert row.realised_density == density and row.empty_layer == empty and row.steps == 12
        assert row.train_loss == pytest.approx(loss, rel=1e-4)
        assert row.test_accuracy == accuracy


def test_every_run_is_there_once_and_keeps_its_count():
    rows = whole()
    assert [row.run for row in rows] == sweep.runs(small_problem(), METHODS, DENSITIES, SEEDS)
    assert len({row.run for row in rows}) == len(rows) == 2 * (1 + 5 * 2)
    for row in rows:
        assert round(35 * row.realised_density) == {1.0: 35, 0.5: 18, 0.2: 7}[row.density]
        assert 0 <= row.test_accuracy <= 1 and row.train_loss > 0 and row.seconds > 0 and not row.failure
    assert len({row.train_loss for row in rows}) == len(rows)  # none is another one's


@pytest.mark.parametrize("kept", [4, 15])
def test_what_goes_on_has_the_same_rows(kept):
    """Bit for bit, also where the rows of a group were cut apart."""
    done = [row.run for row in whole()[:kept]]
    rest = rows_of(sweep.run(small_problem(), METHODS, DENSITIES, SEEDS, done=done))
    assert timeless(rest) == timeless(whole()[kept:])


def test_nothing_is_done_twice(monkeypatch):
    monkeypatch.setattr(engine, "_rows", None)  # which would train
    assert not list(sweep.run(small_problem(), METHODS, DENSITIES, SEEDS, done=[row.run for row in whole()]))


def test_a_mask_that_cannot_be_drawn_is_said_and_changes_no_other_run():
    methods = (METHODS[0], sweep.Method("refusing", refusing))
    rows = rows_of(sweep.run(small_problem(), methods, [0.5], [3]))
    assert [row.score for row in rows] == ["dense", "snip", "refusing"]
    failed = rows[2]
    assert "nothing, to" in failed.failure and failed.steps == 0
    assert all(map(math.isnan, (failed.realised_density, failed.train_loss, failed.test_accuracy)))
    known = {row.run: row for row in whole()}
    for row in rows[:2]:
        assert row.train_loss == pytest.approx(known[row.run].train_loss, rel=1e-4)
        assert row.test_accuracy == known[row.run].test_accuracy


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_diverges_answers_nothing_right(value):
    problem = small_problem()
    diverged = jax.tree.map(lambda leaf: jnp.full((2, *leaf.shape), value), problem.params(jax.random.key(0)))
    found = engine._tested(problem, diverged, 1)
    assert math.isnan(found.train_loss) and found.test_accuracy == 0


def test_an_empty_layer_is_seen():
    def first_layer(apply, loss, params, batch, density, key):
        return {
            layer: {name: jnp.full(leaf.shape, layer == "Dense_0" or name == "bias") for name, leaf in leaves.items()}
            for layer, leaves in params.items()
        }

    rows = rows_of(sweep.run(small_problem(), [sweep.Method("first", first_layer)], [0.5], [3]))
    assert [row.empty_layer for row in rows] == [False, True]
    assert rows[1].realised_density == 20 / 35


@pytest.mark.parametrize("size", [7, 20])
def test_any_number_of_samples_is_tested_at_once(monkeypatch, size):
    problem = small_problem()
    params = problem.params(jax.random.key(0))
    monkeypatch.setattr(engine, "TESTED_AT_ONCE", size)
    for data in (problem.train, problem.test):
        loss, correct = engine._totals(problem, params, data)
        mean, accuracy = measured(params, *data)
        assert loss == pytest.approx(len(data[0]) * mean, rel=1e-5) and correct == len(data[0]) * accuracy


def test_features_are_scaled_by_the_training_set_alone():
    train_set, test_set = features(30, 0), features(20, 1)
    x, x_test = (each.replace(x=np.column_stack([each.x, np.full(len(each.x), 0.1)])) for each in (train_set, test_set))
    problem = sweep.problem("mlp", x, x_test)
    np.testing.assert_allclose(problem.train[0].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(problem.train[0].std(0), [1, 1, 1, 1, 0], atol=1e-6)
    assert (abs(problem.test[0].mean(0)[:4]) > 1e-3).all() and (abs(problem.test[0][:, 4]) < 1e-6).all()
    images = Dataset(np.random.default_rng(0).random((6, 8 * 8 * 2)), np.arange(6) % 2, "images", 2, (8, 8, 2))
    scaled = sweep.problem("mlp", images, images).train[0]
    assert scaled.shape == (6, 8, 8, 2)
    np.testing.assert_allclose(scaled.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std((0, 1, 2)), 1, atol=1e-5)


def test_training_is_in_float32():
    problem = small_problem()
    assert {leaf.dtype for leaf in jax.tree.leaves(problem.params(jax.random.key(0)))} == {np.dtype(np.float32)}
    assert problem.train[0].dtype == problem.test[0].dtype == np.float32


def normalised_network(params, reference, x):
    """A 3x3 convolution, normalised with the averages over the reference, ReLU, max pooling, mean and a dense layer."""

    def convolved(x):
        padded = np.pad(np.float64(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
        return sum(padded[:, i : i + 4, j : j + 4] @ np.float64(kernel[i, j]) for i in range(3) for j in range(3))

    kernel, norm, dense = params["Conv_0"]["kernel"], params["BatchNorm_0"], params["Dense_0"]
    averaged = convolved(reference)
    scaled = (convolved(x) - averaged.mean((0, 1, 2))) / np.sqrt(averaged.var((0, 1, 2)) + 1e-5)
    active = np.maximum(scaled * norm["scale"] + norm["bias"], 0)
    pooled = active.reshape(len(x), 2, 2, 2, 2, -1).max((2, 4))
    return pooled.mean((1, 2)) @ dense["kernel"] + dense["bias"]


def test_batch_normalisation_is_that_of_batches_in_training_and_of_data_in_the_test():
    rng = np.random.default_rng(0)
    train_set, test_set = (Dataset(rng.random((n, 16)), np.arange(n) % 2, "images", 2, (4, 4, 1)) for n in (12, 6))
    model = models.Vgg(stages=((2,),), outputs=2, norm=True)
    problem = sweep.problem(model, train_set, test_set, sweep.Training(3, 0.1, 6))
    dense, row = rows_of(sweep.run(problem, [sweep.Method("erk", erk)], [0.5], [0]))
    weight_key, batch_key, mask_key, _ = jax.random.split(jax.random.key(0), 4)
    params = models.initial(model, weight_key, problem.train[0])[1]
    mask = erk(None, None, params, None, 0.5, jax.random.fold_in(mask_key, zlib.crc32(b"erk 0.5")))
    trained, _ = train.fit(
        models.in_training_mode(model), train.cross_entropy, params, problem.train, problem.optimizer, 3,
        mask=mask, key=batch_key, batch_size=6,
    )  # fmt: skip
    reference, tests = (normalised_network(trained, problem.train[0], x[0]) for x in (problem.train, problem.test))
    assert row.train_loss == pytest.approx(mean_loss(reference, problem.train[1]), rel=1e-4)
    assert row.test_accuracy == np.mean(tests.argmax(1) == problem.test[1])
    loss, _ = engine._totals(problem, trained, problem.test)
    assert loss / 6 == pytest.approx(mean_loss(tests, problem.test[1]), rel=1e-4)
    assert dense.realised_density == 1 and row.realised_density == 11 / 22


def test_the_step_size_falls_to_zero_along_a_cosine():
    """Of one weight with a slope of one, and without momentum's share: v_t = 0.9 v_{t-1} + 1."""
    optimizer, (x, state) = sweep.Training(4, 0.5).optimizer(), (jnp.zeros(()), None)
    state = optimizer.init(x)
    velocity = 0.0
    for step in range(4):
        update, state = optimizer.update(jnp.ones(()), state, x)
        velocity = 0.9 * velocity + 1
        assert float(update) == pytest.approx(-0.5 * (1 + math.cos(math.pi * step / 4)) / 2 * velocity)
        x = optax.apply_updates(x, update)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"densities": [0.5, 0.5]}, "densities has 0.5 twice; it takes each once"),
        ({"densities": [0.0]}, r"density is 0.0; it takes a number in \(0, 1\]"),
        ({"densities": [1.5]}, r"density is 1.5; it takes a number in \(0, 1\]"),
        ({"densities": [0.001]}, "density is 0.001, none of 35 weights"),
        ({"seeds": [1, 1]}, "seeds has 1 twice"),
        ({"seeds": [-1]}, r"seeds is \[-1\]; it takes a whole number >= 0"),
        ({"methods": [METHODS[0], METHODS[0]]}, "methods has 'snip, top' twice"),
        ({"methods": [sweep.DENSE]}, "methods has 'dense' twice"),
    ],
)
def test_bad_sweeps(change, message):
    arguments = {"methods": METHODS, "densities": DENSITIES, "seeds": SEEDS} | change
    for function in (sweep.run, sweep.runs):
        with pytest.raises(ValueError, match=message):
            function(small_problem(), **arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sweep.scored("snip", scores.snip, sampler="bottom"), "sampler is 'bottom'; it takes top or proport"),
        (lambda: sweep.scored("snip", scores.snip, rounds=0), "rounds is 0; it takes a whole number >= 1"),
        (lambda: sweep.Training(steps=-1), "steps is -1; it takes a whole number >= 0"),
        (lambda: sweep.Training(batch_size=0), "batch_size is 0; it takes a whole number >= 1"),
        (lambda: sweep.Training(learning_rate=0.0), "learning_rate is 0.0; it takes a finite number > 0"),
        (lambda: sweep.problem("lenet5", features(4, 0), features(4, 0)), "network is 'lenet5'; it takes mlp or lenet"),
        (lambda: sweep.problem("lenet", features(4, 0), features(4, 0)), "network is lenet, and tiny holds plain feat"),
        (lambda: sweep.problem("mlp", features(4, 0), features(4, 0, width=5)), "test has samples, images and classes"),
        (lambda: sweep.problem("mlp", features(4, 0), features(4, 0, classes=2)), "it takes those of train"),
    ],
)
def test_bad_problems(make, message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", sweep.NETWORKS)
def test_every_network_takes_images_of_any_data_set(name):
    for shape, classes in (((8, 8, 1), 10), ((32, 32, 3), 100)):
        images = Dataset(np.zeros((4, math.prod(shape))), np.arange(4) % classes, "images", classes, shape)
        posed = jax.eval_shape(sweep.NETWORKS[name](classes).init, jax.random.key(0), np.zeros((2, *shape), np.float32))
        assert images.images.shape[1:] == shape and posed["params"]


def test_lenet_is_scored_with_convolutions_and_trained_with_patches():
    images = Dataset(np.random.default_rng(0).random((4, 16)), np.arange(4) % 2, "images", 2, (4, 4, 1))
    problem = sweep.problem("lenet", images, images)
    scored, trained = (
        models.initial(models.lenet(2, patches=each), jax.random.key(0), problem.train[0])[0] for each in (False, True)
    )
    assert problem.apply is scored and problem.trained is trained
