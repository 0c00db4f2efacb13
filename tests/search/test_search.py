"""The streamed search against evaluating every mask by hand; identity over batches, devices and restarts."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sketchprune import kernels, laws, linalg, masks, search, train
from sketchprune.search import _bins, _exact, mesh
from sketchprune.search import _program as _worker
from sketchprune.search._program import Worker
from sketchprune.search._summary import Tally
from sketchprune.search._tiles import Shape
from sketchprune.search._traced import Traced

N, D, BUDGET = 9, 12, 4
RNG = np.random.default_rng(5)
X, W = jnp.asarray(RNG.normal(size=(N, D)), jnp.float32), jnp.asarray(RNG.normal(size=D), jnp.float32)
LAW = laws.Multinomial(jnp.full(D, 1 / D, jnp.float32), BUDGET).sample
KEY = jax.random.key(7)
COUNT = 5 * 256 + 17


def objective(mask):
    """NaN for masks that keep the first item, infinite for those that keep the second."""
    error = search.linear_error(X, W)(mask)
    return jnp.where(mask[0] > 0, jnp.nan, jnp.where(mask[1] > 0, jnp.inf, error))


@functools.cache
def by_hand():
    """Every mask and its objective."""
    keys = jax.vmap(lambda index: jax.random.fold_in(jax.random.fold_in(KEY, 0), index))(jnp.arange(COUNT))
    every = jax.jit(jax.vmap(LAW))(keys)
    return np.asarray(every), np.asarray(jax.jit(jax.vmap(objective))(every))


def alone():
    return mesh.over(jax.devices()[:1])


@functools.cache
def found():
    return search.best(objective, LAW, KEY, COUNT, best=9, mesh=alone())


def same(one, other):
    """Bit for bit, but for the time it took."""
    for name in vars(one):
        if name not in ("seconds", "rate"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_search_is_the_sorted_list_of_all_masks():
    every, values = by_hand()
    result = found()
    order = sorted((value, index) for index, value in enumerate(values) if not np.isnan(value))[:9]
    assert result.indices.tolist() == [index for _, index in order]
    np.testing.assert_allclose(result.values, [value for value, _ in order], rtol=1e-6)
    np.testing.assert_array_equal(result.masks, every[result.indices])
    finite = values[np.isfinite(values)].astype(np.float64)
    assert (result.undefined, result.infinite) == (np.isnan(values).sum(), np.isinf(values).sum())
    assert result.undefined and result.infinite
    np.testing.assert_allclose([result.mean, result.variance], [finite.mean(), finite.var()], rtol=1e-6)
    assert result.largest == np.inf and result.num_masks == COUNT
    assert result.histogram.sum() == COUNT - result.undefined
    for level in (0, 0.1, 0.5, 0.8):
        ranked = np.quantile(values[~np.isnan(values)], level, method="inverted_cdf")
        assert result.quantile(level) == pytest.approx(ranked, rel=0.011)


def test_ties_go_to_the_lower_index_and_nan_is_never_best():
    def few(mask):
        return jnp.where(mask[0] > 0, jnp.nan, -0.0 * mask[1])

    result = search.best(few, LAW, KEY, COUNT, best=COUNT)
    defined = np.flatnonzero(by_hand()[0][:, 0] == 0)
    assert result.indices.tolist() == defined.tolist() and (result.values == 0).all()
    with pytest.raises(ValueError, match="NaN for all of the 300 masks"):
        search.best(lambda mask: jnp.float32(jnp.nan), LAW, KEY, 300)


def test_thousands_of_best_masks(monkeypatch):
    """Where the best are all masks, they are the sorted ones, and no key was made on its own."""
    law = functools.partial(jax.random.normal, shape=(), dtype=jnp.float32)
    count = 3000
    made, calls = _worker.mask_key, []
    monkeypatch.setattr(_worker, "mask_key", lambda *words: calls.append(words) or made(*words))
    result = search.best(lambda mask: mask, law, KEY, count, best=count, mesh=alone())
    assert 1 <= len(calls) <= 4  # traces
    every = jax.vmap(lambda index: law(jax.random.fold_in(jax.random.fold_in(KEY, 0), index)))(jnp.arange(count))
    np.testing.assert_array_equal(result.masks, every[result.indices])
    np.testing.assert_array_equal(result.values, np.sort(every))


def test_a_second_search_compiles_nothing(caplog):
    """Of the same functions, whatever the key, the count and the batch; other data are other functions."""
    error, law = search.linear_error(X, W), functools.partial(LAW)
    first = search.best(error, law, KEY, 512, best=3, mesh=alone())
    with jax.log_compiles():
        search.best(error, law, jax.random.key(8), COUNT, best=3, mesh=alone())
        same(first, search.best(error, law, KEY, 512, best=3, batch=256, mesh=alone()))
        assert not compiled(caplog)
        with jax.enable_x64(False):
            search.best(error, law, KEY, 512, best=3, mesh=alone())
        assert compiled(caplog) == ["search", "masks"]
        other = search.best(search.linear_error(X, 2 * W), law, KEY, 512, best=3, mesh=alone())
    np.testing.assert_allclose(other.values, 4 * first.values, rtol=1e-6)


def compiled(caplog):
    """The programs of searches that were compiled, by name."""
    said = [record.getMessage() for record in caplog.records]
    return [name for text in said for name in ("search", "masks") if f"Finished XLA compilation of jit({name})" in text]


def test_no_search_keeps_data_alive():
    data = jnp.array(W)
    seen = weakref.ref(data)

    def own(data):
        error = search.linear_error(X, data)
        return search.best(error, LAW, KEY, 256, best=1, mesh=alone())

    own(data)
    del data
    gc.collect()
    assert seen() is None


def test_data_are_fetched_only_to_be_compared(monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setattr(Traced, "data", property(lambda traced: fetched.append(traced) or "0"))
    search.best(objective, LAW, KEY, 256, best=1, mesh=alone())
    assert not fetched
    search.best(objective, LAW, KEY, 256, best=1, mesh=alone(), checkpoint=tmp_path)
    assert len(fetched) == 2  # the law's and the objective's


@pytest.mark.parametrize("batch", [256, 512, 2**20])
def test_results_do_not_depend_on_the_batch(batch):
    same(found(), search.best(objective, LAW, KEY, COUNT, best=9, batch=batch, mesh=alone()))


@pytest.mark.parametrize("over", [None, mesh.over(jax.devices()[:3]), jax.make_mesh((2, 4), ("a", "b"))])
def test_results_do_not_depend_on_the_devices(over):
    same(found(), search.best(objective, LAW, KEY, COUNT, best=9, mesh=over))


def test_numbers_pass_two_to_the_32():
    worker = Worker(objective, LAW, KEY, mesh.over(jax.devices()[:2]), best=40)
    first = 2**32 - 256
    tally = Tally(40, done=first)
    tally = tally.plus(worker.share(first, 256, 300), 300)
    keys = jnp.stack([search.mask_key(KEY, index) for index in range(2**32, 2**32 + 44)])
    values = np.asarray(jax.jit(jax.vmap(lambda key: objective(LAW(key))))(keys))
    late = [(value, index) for value, index in tally.found if index >= 2**32]
    below = np.sort(values[values <= tally.found[-1][0]])
    assert len(below)
    np.testing.assert_allclose([value for value, _ in late], below, rtol=1e-6)
    assert len({int(jax.random.key_data(search.mask_key(KEY, index))[0]) for index in (0, 2**32, 2**33)}) == 3


def test_groups_and_lanes_give_the_same_masks():
    worker = Worker(objective, LAW, KEY, mesh.over(jax.devices()[:1]), best=5)
    plain = Tally(5).plus(worker.share(0, 1024, 1000), 1000)
    for shape in (Shape(2, 512), Shape(1, 32)):
        worker._fitted = shape, worker.lowered(shape).compile()
        other = Tally(5).plus(worker.share(0, 1024, 1000), 1000)
        assert [index for _, index in other.found] == [index for _, index in plain.found]
        np.testing.assert_allclose(other.moments(), plain.moments(), rtol=1e-6)


def test_small_caches_and_little_memory_make_masks_take_turns(monkeypatch):
    plenty = Worker(objective, LAW, KEY, alone(), best=5)
    needed = plenty._fitted[1].memory_analysis().temp_size_in_bytes
    monkeypatch.setattr(_worker, "_CACHE", 1)
    cached = Worker(objective, LAW, KEY, alone(), best=5)
    assert (plenty.shape, cached.shape) == (Shape(1, 256), Shape(1, 4))
    monkeypatch.setattr(_worker, "_memory", lambda device: 1)
    scarce = Worker(objective, LAW, KEY, alone(), best=5)
    assert scarce.shape == Shape(1, 1)
    assert cached._fitted[1].memory_analysis().temp_size_in_bytes < needed
    for here, there in zip(plenty.share(0, 256, 200), scarce.share(0, 256, 200), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-6)
    assert plenty.identity["in flight"] != scarce.identity["in flight"]


def test_lowering_for_an_accelerator_has_no_float64():
    for law in (
        LAW,
        laws.Poisson(jnp.full(D, 0.3, jnp.float32)).sample,
        laws.FixedSize(jnp.full(D, 0.3, jnp.float32), 3).sample,
    ):
        with jax.enable_x64(False):
            worker = Worker(search.linear_error(X, W), law, KEY, mesh.over(jax.devices()[:2]), best=4)
            text = worker.lowered(Shape(2, 512), "tpu").as_text()
        assert "dot_general" in text and "all_gather" in text and "f64" not in text


def test_bins_are_the_logarithms():
    values = np.concatenate([RNG.normal(size=2000) * 10.0 ** RNG.integers(-37, 38, 2000), [0, 2**-126, 2**-127, 1, 2]])
    values = values.astype(np.float32)
    places = np.asarray(_bins.bins(jnp.asarray(values)))
    edges = _bins.edges()
    assert (np.diff(edges) > 0).all()
    size = abs(values.astype(np.float64))
    ordinary = size >= 2.0**-126
    assert (places[~ordinary] == _bins.ZERO).all()
    signed = np.where(values > 0, places, 2 * _bins.ZERO - places)[ordinary]
    assert ((edges[signed] <= size[ordinary]) & (size[ordinary] < edges[signed + 1])).all()
    assert _bins.bins(jnp.array([-jnp.inf, jnp.inf])).tolist() == [0, _bins.COUNT - 1]
    inner = edges[_bins.ZERO + 1 : -1]
    assert (inner[1:] / inner[:-1]).max() == pytest.approx(_bins.RATIO) and _bins.RATIO**0.5 < 1.011


def test_sums_are_exact_in_any_order():
    from fractions import Fraction

    values = np.append(RNG.normal(size=500) * 10.0 ** RNG.integers(-300, 300, 500), [5e-324, -1.5e-323, 0.0])
    total = _exact.units(values)
    assert _exact.in_units(total) == sum(map(Fraction, values.tolist()))
    assert total == _exact.units(values[::-1][:100]) + _exact.units(values[::-1][100:])
    powers = RNG.integers(-2044, 2045, len(values))
    scaled = [
        Fraction(value) * Fraction(2) ** power for value, power in zip(values.tolist(), powers.tolist(), strict=True)
    ]
    assert _exact.in_units(_exact.units(values, powers)) == sum(scaled)


@pytest.mark.parametrize("scale", [1e-30, 1e20, 1e37, 2e38])
def test_moments_of_values_of_any_size(scale):
    """Their squares, and the sum of a tile of them, are beyond float32."""
    scale = jnp.float32(scale)

    def large(number):
        return scale * jnp.where(number > 0.9, -number, number)

    law = functools.partial(jax.random.uniform, shape=(), dtype=jnp.float32, minval=0.5, maxval=1.5)
    count = 700
    result = search.best(large, law, KEY, count, best=count, mesh=alone())
    values = result.values.astype(np.float64)
    assert result.values.dtype == np.float32 and np.isfinite(values).all() and result.infinite == 0
    np.testing.assert_allclose([result.mean, result.variance], [values.mean(), values.var()], rtol=1e-5)
    same(result, search.best(large, law, KEY, count, best=count, batch=768, mesh=mesh.over(jax.devices()[:3])))


def test_what_float64_cannot_hold_is_nan():
    def large(mask):
        return 1e200 * (1 + mask[0].astype(jnp.float64))

    result = search.best(large, LAW, KEY, 256, best=256, mesh=alone())
    np.testing.assert_allclose(result.mean, np.mean(result.values), rtol=1e-12)
    assert np.isnan(result.variance) and result.infinite == 0


def test_numbers_of_python():
    """Objectives that are constant, and N as 1e3."""
    result = search.best(lambda mask: 1.5, LAW, KEY, 1e3, best=2, mesh=alone())
    assert (result.values.tolist(), result.indices.tolist(), result.num_masks) == ([1.5, 1.5], [0, 1], 1000)
    assert isinstance(result.num_masks, int) and (result.mean, result.variance) == (1.5, 0)


def test_objectives_are_what_they_say():
    x, w, y = (jnp.asarray(RNG.normal(size=shape)) for shape in ((20, D), D, 20))
    start = jnp.asarray(RNG.normal(size=D))
    drawn = [laws.Multinomial(jnp.full(D, 1 / D), BUDGET).sample(jax.random.key(i)) for i in range(3)]
    some = jnp.stack([*drawn, jnp.zeros(D), (jnp.arange(D) % 3 == 0).astype(float)])

    def trained(mask):
        """By real gradient descent."""
        data, step = (x, y), optax.sgd(0.01)
        found, _ = train.fit(
            lambda w, x: x @ w, lambda f, y: jnp.sum((f - y) ** 2) / 2, start, data, step, 7, mask=mask
        )
        return jnp.sum((x @ found - y) ** 2)

    references = {
        "error": lambda mask: jnp.sum((x @ (mask * w) - x @ w) ** 2),
        "limit": lambda mask: jnp.sum((x @ linalg.limit(x, y, start, mask=mask) - y) ** 2),
        "steps": trained,
    }
    timing = {"steps": 7, "step_size": 0.01}
    objectives = {
        "error": [search.linear_error(x, w)],
        "limit": [search.training_error(x, y, start=start, keep=keep) for keep in (None, 5)],
        "steps": [search.training_error(x, y, start=start, keep=keep, **timing) for keep in (None, 5)],
    }
    for name, reference in references.items():
        expected = jax.jit(jax.vmap(reference))(some)
        for objective in objectives[name]:
            np.testing.assert_allclose(jax.jit(jax.vmap(objective))(some), expected, rtol=1e-9, atol=1e-9)
    assert search.linear_error(x, w)(some[-1] > 0) == search.linear_error(x, w)(some[-1])
    assert np.isnan(search.training_error(x, y, keep=3)(jnp.ones(D)))


def network(params, x):
    return jnp.tanh(x @ params["in"]) @ params["out"]


def squared(outputs, y):
    return jnp.mean((outputs[:, 0] - y) ** 2)


def test_networks_and_pytrees():
    params = {"in": jnp.asarray(RNG.normal(size=(D, 5)), jnp.float32), "out": jnp.ones((5, 1), jnp.float32)}
    data = X, jnp.ones(N, jnp.float32)
    law = laws.Poisson(jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.5), params), binary=True).sample
    dense = kernels.ntk_reference(network, params, X)
    expected = {
        search.initial_loss(network, squared, params, data): lambda mask: squared(
            network(masks.apply(params, mask), X), data[1]
        ),
        search.trained_loss(network, squared, params, data, optax.sgd(0.1), 3): lambda mask: squared(
            network(train.fit(network, squared, masks.apply(params, mask), data, optax.sgd(0.1), 3, mask=mask)[0], X),
            data[1],
        ),
        search.ntk_error(network, params, X): lambda mask: jnp.sum(
            (kernels.ntk_reference(network, params, X, mask=mask) - dense) ** 2
        ),
    }
    for objective, reference in expected.items():
        result = search.best(objective, law, KEY, 256, best=2, mesh=alone())
        top = jax.tree.map(lambda leaf: leaf[0], result.masks)
        assert jax.tree.structure(top) == jax.tree.structure(params)
        np.testing.assert_allclose(result.values[0], reference(top), rtol=2e-5)
        keys = jnp.stack([search.mask_key(KEY, index) for index in range(16)])
        some = jax.jit(jax.vmap(reference))(jax.vmap(law)(keys))
        assert result.values[0] <= some.min() * (1 + 1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_masks": 0}, "num_masks is 0; it takes a whole number from 1"),
        ({"num_masks": 10, "best": 11}, "best is 11; it takes 1 to num_masks = 10"),
        ({"num_masks": 512.5}, "num_masks is 512.5; it takes a whole number from 1"),
        ({"num_masks": float("nan")}, "num_masks is nan"),
        ({"best": 0}, "best is 0"),
        ({"best": 2.0}, "best is 2.0; it takes a whole number >= 1"),
        ({"batch": 256.0}, "batch is 256.0; it takes a whole number >= 1"),
        ({"batch": 300, "mesh": 1}, "batch is 300 with a mesh of 1 devices; it takes a multiple of 256"),
        ({"batch": 512, "mesh": 3}, "batch is 512 with a mesh of 3 devices; it takes a multiple of 768"),
        ({"objective": lambda mask: mask}, r"objective returns .*; it takes a function mask -> one floating"),
        ({"objective": lambda mask: jnp.int32(1)}, "objective returns"),
        ({"key": jax.random.key(0, impl="rbg")}, "it takes a threefry2x32 key"),
        ({"key": jax.random.PRNGKey(0)}, "it takes one key of jax.random.key"),
    ],
)
def test_bad_input(change, message):
    arguments = {"objective": objective, "law": LAW, "key": KEY, "num_masks": 512} | change
    if "mesh" in change:
        arguments["mesh"] = mesh.over(jax.devices()[: change["mesh"]])
    with pytest.raises(ValueError, match=message):
        search.best(**arguments)
    with pytest.raises(ValueError, match="level is 2"):
        found().quantile(2)


def test_arguments_of_objectives_are_checked():
    with pytest.raises(ValueError, match="steps is 3 and step_size is None"):
        search.training_error(X, X[:, 0], steps=3)
    with pytest.raises(ValueError, match="keep is 0"):
        search.training_error(X, X[:, 0], keep=0)
