"""The figures of the paths paper: their numbers keep the theory's identities and bounds."""

import jax
import numpy as np
import pytest

from figures import _trained_lines, kernel_spectra, ntk_path_traces
from figures import _trained_paths as runs
from figures._config import Config
from figures._intervals import mean_interval
from figures._path_networks import PRUNERS, everything, network, prune_network, reversed_grasp
from sketchprune import data, kernels, masks, paths, prune, scores, train

pytestmark = pytest.mark.usefixtures("jax_settings")


@pytest.fixture(scope="module")
def net():
    return network("tiny", data.load(), 64)


# --- Networks in training


@pytest.fixture(scope="module")
def followed(net):
    """Two seeds of a SynFlow mask, and what was measured of them."""
    training = runs.SETTINGS["tiny"]
    start, mask, keys = runs.starts(net, "synflow", training, jax.random.key(3))
    return training, start, mask, keys, runs.trained(net, start, mask, training, keys)


def test_the_first_trace_is_that_of_the_pruned_start(net, followed):
    _, start, mask, _, found = followed
    for seed in range(2):
        params, kept = jax.tree.map(lambda leaf, seed=seed: leaf[seed], (start, mask))
        assert masks.summary(kept).density == pytest.approx(runs.DENSITY, abs=1e-3)
        pruned = masks.apply(params, kept)
        expected = paths.trace(net.apply, pruned, net.input_shape, mask=kept, log=True)
        np.testing.assert_allclose(found["log_trace"][seed, 0], expected, rtol=1e-5)
        assert found["distance"][seed, 0] == 0
        outputs = np.asarray(net.apply(pruned, net.x))
        np.testing.assert_allclose(found["mean"][seed, 0], outputs.mean(), atol=1e-6)
        np.testing.assert_allclose(found["norm"][seed, 0], np.linalg.norm(outputs, axis=1).mean(), rtol=1e-5)


def test_the_last_numbers_are_those_of_training_alone(net, followed):
    training, start, mask, keys, found = followed
    params, kept = jax.tree.map(lambda leaf: leaf[1], (start, mask))
    begun = masks.apply(params, kept)
    ended, _ = train.fit(
        net.apply, train.cross_entropy, begun, (net.x, net.y), runs.OPTIMIZER, training.steps,
        mask=kept, key=keys[1], batch_size=training.batch_size,
    )  # fmt: skip
    moved = np.sqrt(sum(np.sum(np.square(a - b)) for a, b in zip(*map(jax.tree.leaves, (ended, begun)), strict=True)))
    np.testing.assert_allclose(found["distance"][1, -1], moved, rtol=1e-4)
    expected = paths.trace(net.apply, ended, net.input_shape, mask=kept, log=True)
    np.testing.assert_allclose(found["log_trace"][1, -1], expected, rtol=1e-4)


def test_pruners_share_weights_and_batches(net):
    training = runs.SETTINGS["tiny"]
    dense, pruned = (runs.starts(net, name, training, jax.random.key(3)) for name in (runs.DENSE, "random"))
    for one, other in zip(*map(jax.tree.leaves, (dense[0], pruned[0])), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (dense[2] == pruned[2]).all()
    assert all(leaf.all() for leaf in jax.tree.leaves(dense[1]))


def test_large_images_have_settings_of_their_own():
    scale = runs.SETTINGS["small"]
    shapes = {(28, 28, 1): scale.large.networks, (8, 8, 1): scale.small.networks, (): ("fc",)}
    for shape, expected in shapes.items():
        dataset = data.Dataset(np.zeros((2, 64)), np.zeros(2, int), "", 1, shape)
        assert runs._training(Config(scale="small", data=dataset)).networks == expected
    assert scale.large.samples >= 10_000


def test_networks_without_a_path_are_counted_and_not_averaged():
    log_trace = np.array([[[[0.0, 1.0], [-np.inf, -np.inf]], [[-np.inf] * 2] * 2]])  # [1, 2 pruners, 2 seeds, 2 steps]
    found = {"networks": np.array(["fc"]), "pruners": np.array(["snip", "random"]), "steps": np.arange(2)}
    change = np.where(np.isfinite(log_trace), log_trace, np.nan)
    arrays = _trained_lines.table(found | {"log_trace": log_trace}, {"change": change})
    assert arrays["seeds"].tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(arrays["change"], [0, 1, np.nan, np.nan])
    figure = _trained_lines.draw_lines(arrays, [_trained_lines.Row("change", "change")])
    (text,) = figure.axes[0].texts
    assert text.get_text() == "no path is left: random"


def test_mean_intervals_are_students():
    values = np.random.default_rng(0).standard_normal((5, 2))
    values[0, 1] = np.nan
    mean, half = mean_interval(values)
    np.testing.assert_allclose(mean, [values[:, 0].mean(), values[1:, 1].mean()])
    expected = [2.7764 * values[:, 0].std(ddof=1) / np.sqrt(5), 3.1824 * values[1:, 1].std(ddof=1) / 2]
    np.testing.assert_allclose(half, expected, rtol=1e-4)


# --- Pruners


def test_iterative_masks_are_those_of_the_library(net):
    params = net.initial(jax.random.key(1))
    keeps = [200, 40]
    found = prune_network(net, params, PRUNERS["synflow"], keeps, key=jax.random.key(0), rounds=2)
    batch = net.x, net.y
    size = prune.size(params)
    schedule = [*prune.exponential_schedule(size, 200, 2), *prune.exponential_schedule(200, 40, 2)]
    left = everything(params)
    for keep in schedule:
        left = masks.keep_top(scores.synflow(net.apply, None, params, batch, mask=left), int(keep))
    for one, other in zip(*map(jax.tree.leaves, (found[-1], left)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [sum(jax.tree.leaves(masks.summary(mask).kept)) for mask in found] == keeps


def test_reversed_grasp_has_the_other_sign(net):
    arguments = net.apply, train.cross_entropy, net.initial(jax.random.key(1)), (net.x, net.y)
    for one, other in zip(*map(jax.tree.leaves, (scores.grasp(*arguments), reversed_grasp(*arguments))), strict=True):
        np.testing.assert_array_equal(one, -other)


# --- Untrained networks


def test_conserved_scores_have_one_sum_for_all_layers(made):
    numbers = made("conservation")
    deviation = dict(zip(numbers["score"].tolist(), numbers["deviation_largest"], strict=True))
    assert max(deviation["synflow"], deviation["saliency"]) < 1e-12
    assert deviation["magnitude"] > 0.1
    np.testing.assert_allclose(numbers["relative_sum"][numbers["conserved"]], 1, rtol=1e-12)


def test_iterative_synflow_empties_no_layer(made):
    numbers = made("layer_occupancy")
    rows = numbers["method"] == "synflow"
    assert (numbers["collapsed_share"][rows] == 0).all() and (numbers["fewest_least"][rows] >= 1).all()
    assert (numbers["collapsed_share"][~rows] > 0).any()
    # What is left of all layers is what the compression says.
    sizes = numbers["layer_size"]
    kept = numbers["density"] @ sizes
    np.testing.assert_allclose(kept, sizes.sum() / numbers["compression"], atol=0.5)


def test_the_path_norm_bounds_the_change_and_equals_it_for_positive_weights(made):
    numbers = made("pruning_error")
    positive = numbers["panel"] == "positive"
    assert (numbers["change"] < numbers["bound"])[~positive].all()
    np.testing.assert_allclose(numbers["change"][positive], numbers["bound"][positive], atol=1e-5)


def test_traces_are_those_of_the_kernels(net, made):
    settings = ntk_path_traces.SETTINGS["tiny"]
    key = jax.random.key(5)
    found = ntk_path_traces.traces(net, PRUNERS["random"], settings, key)
    params = net.initial(settings.draws(key)[1][0])
    kernel = kernels.ntk_reference(net.apply, params, net.x, trace_outputs=True)
    expected = np.diagonal(kernel).mean()
    np.testing.assert_allclose(10 ** found["ntk"][1, 0], expected, rtol=1e-4)
    ones = paths.trace(net.apply, params, net.input_shape)
    np.testing.assert_allclose(10 ** found["ones"][1, 0], ones, rtol=1e-4)


@jax.jit
def _listed(params, mask, x):
    """The Gram matrix, the path Jacobian and the path features of a dense network, by a list of its paths."""
    weights, kept = ([tree[layer]["kernel"] for layer in sorted(params)] for tree in (params, mask))
    listed = paths.enumerate_paths(weights, kept)
    # A path with a pruned weight is none: the product of its entries of the mask is zero.
    present = paths.enumerate_paths([each.astype(float) for each in kept]).values
    return listed.gram, listed.jacobian, listed.features(x) * present


def test_bounds_join_the_spectra():
    """The eigenvalues against a list of all paths, and the bounds on those of Θ and on its trace."""
    sizes = kernel_spectra.SETTINGS["tiny"]
    columns = data.load().x[:, [20, 21, 28]]
    small = kernel_spectra.small_network(data.Dataset(columns, data.load().y, "", 10), sizes)
    params = small.initial(jax.random.key(2))
    mask = jax.tree.map(lambda leaf: jax.random.bernoulli(jax.random.key(4), 0.7, leaf.shape), params)
    ntk, path, features = map(np.asarray, kernel_spectra.eigenvalues(params, mask, small.x, apply=small.apply))
    gram, jacobian, features_of_paths = map(np.asarray, _listed(params, mask, small.x))
    np.testing.assert_allclose(path, np.linalg.eigvalsh(gram)[::-1], atol=1e-10 * path[0])
    rows = features_of_paths.reshape(-1, len(jacobian))
    expected = np.linalg.eigvalsh(rows @ rows.T)[::-1]
    np.testing.assert_allclose(features, expected, atol=1e-10 * expected[0])
    product = rows @ jacobian
    expected = np.linalg.eigvalsh(product @ product.T)[::-1]
    np.testing.assert_allclose(ntk, expected, atol=1e-10 * expected[0])
    bounds = kernel_spectra.eigenvalue_bounds(path, features)
    assert (ntk <= bounds * (1 + 1e-9) + 1e-9 * ntk[0]).all()
    assert ntk.sum() <= min(features[0] * path.sum(), path[0] * features.sum())
