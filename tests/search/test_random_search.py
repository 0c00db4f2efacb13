"""The streamed search against evaluating every mask by hand; identity over batches and devices."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import laws, search
from sketchprune.search import _program, mesh
from sketchprune.search._program import SearchProgram
from sketchprune.search._summary import SearchSummary
from sketchprune.search._tiles import Chunking
from sketchprune.search._traced import TracedFunction
from tests.support import without_type_checks

N, D = 9, 12
RNG = np.random.default_rng(5)
X, W = jnp.asarray(RNG.normal(size=(N, D)), jnp.float32), jnp.asarray(RNG.normal(size=D), jnp.float32)
LAW = laws.Multinomial(jnp.full(D, 1 / D, jnp.float32), 4)
KEY = jax.random.key(7)
COUNT = 5 * 256 + 17
ALONE = mesh.over(jax.devices()[:1])
THREE = mesh.over(jax.devices()[:3])
NUM_BEST = 40


def objective(mask):
    """NaN for masks that keep the first item, infinite for those that keep the second."""
    error = search.linear_error(X, W)(mask)
    return jnp.where(mask[0] > 0, jnp.nan, jnp.where(mask[1] > 0, jnp.inf, error))


@functools.cache
def by_hand():
    """Every mask and its objective."""
    keys = jax.vmap(lambda index: jax.random.fold_in(jax.random.fold_in(KEY, 0), index))(jnp.arange(COUNT))
    every = jax.jit(jax.vmap(LAW.sample))(keys)
    return np.asarray(every), np.asarray(jax.jit(jax.vmap(objective))(every))


@functools.cache
def found():
    return search.best(objective, LAW, COUNT, key=KEY, num_best=NUM_BEST, mesh=ALONE)


def same(one, other):
    """Bit for bit, but for the time it took."""
    for name in vars(one):
        if name not in ("seconds", "rate"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_search_is_the_sorted_list_of_all_masks():
    every, values = by_hand()
    result = found()
    order = sorted((value, index) for index, value in enumerate(values) if not np.isnan(value))[:NUM_BEST]
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

    result = search.best(few, LAW, COUNT, key=KEY, num_best=COUNT, mesh=THREE)
    defined = np.flatnonzero(by_hand()[0][:, 0] == 0)
    assert result.indices.tolist() == defined.tolist() and (result.values == 0).all()
    with pytest.raises(ValueError, match="NaN for all of the 300 masks"):
        search.best(lambda mask: jnp.float32(jnp.nan), LAW, 300, key=KEY, mesh=ALONE)


def test_thousands_of_best_masks(monkeypatch):
    """Where the best are all masks, they are the sorted ones, and no key was made on its own."""
    law = functools.partial(jax.random.normal, shape=(), dtype=jnp.float32)
    count = 3000
    made, calls = _program.mask_key, []
    monkeypatch.setattr(_program, "mask_key", lambda *words: calls.append(words) or made(*words))
    result = search.best(lambda mask: mask, law, count, key=KEY, num_best=count, mesh=ALONE)
    assert 1 <= len(calls) <= 4  # traces
    every = jax.vmap(lambda index: law(jax.random.fold_in(jax.random.fold_in(KEY, 0), index)))(jnp.arange(count))
    np.testing.assert_array_equal(result.masks, every[result.indices])
    np.testing.assert_array_equal(result.values, np.sort(every))


def test_a_second_search_compiles_nothing(caplog):
    """Of the same objects, whatever the key, the count and the batch; other data are other functions."""
    error, law = search.linear_error(X, W), laws.Multinomial(LAW.probabilities, 4)
    options = {"num_best": 3, "mesh": ALONE}
    first = search.best(error, law, 512, key=KEY, **options)
    with jax.log_compiles():
        search.best(error, law, COUNT, key=jax.random.key(8), **options)
        same(first, search.best(error, law, 512, key=KEY, batch=256, **options))
        same(first, search.best(error, law.sample, 512, key=KEY, **options))  # a law is its sampler
        assert not compiled(caplog)
        with jax.enable_x64(False):
            search.best(error, law, 512, key=KEY, **options)
        assert compiled(caplog) == ["search", "masks"]
        other = search.best(search.linear_error(X, 2 * W), law, 512, key=KEY, **options)
    np.testing.assert_allclose(other.values, 4 * first.values, rtol=1e-6)


def compiled(caplog):
    """The programs of searches that were compiled, by name."""
    said = [record.getMessage() for record in caplog.records]
    return [name for text in said for name in ("search", "masks") if f"Finished XLA compilation of jit({name})" in text]


def test_no_search_keeps_data_alive():
    weights, probabilities = jnp.array(W), jnp.array(LAW.probabilities)
    seen = [weakref.ref(weights), weakref.ref(probabilities)]

    def own(weights, probabilities):
        error, law = search.linear_error(X, weights), laws.Multinomial(probabilities, 4)
        return search.best(error, law, 256, key=KEY, num_best=1, mesh=ALONE)

    own(weights, probabilities)
    del weights, probabilities
    gc.collect()
    assert [data() for data in seen] == [None, None]


def test_data_are_fetched_only_to_be_compared(monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setattr(TracedFunction, "data_checksum", property(lambda traced: fetched.append(traced) or "0"))
    options = {"key": KEY, "num_best": NUM_BEST, "mesh": ALONE}
    search.best(objective, LAW, 256, **options)
    assert not fetched
    search.best(objective, LAW, 256, checkpoint=tmp_path, **options)
    assert len(fetched) == 2  # the law's and the objective's


@pytest.mark.parametrize("batch", [256, 512, 2**20])
def test_results_do_not_depend_on_the_batch(batch):
    same(found(), search.best(objective, LAW, COUNT, key=KEY, num_best=NUM_BEST, batch=batch, mesh=ALONE))


@pytest.mark.parametrize("over", [None, THREE, jax.make_mesh((2, 4), ("a", "b"))], ids=["all", "three", "2x4"])
def test_results_do_not_depend_on_the_devices(over):
    same(found(), search.best(objective, LAW, COUNT, key=KEY, num_best=NUM_BEST, mesh=over))


def test_numbers_pass_two_to_the_32():
    program = SearchProgram(objective, LAW.sample, KEY, mesh=THREE, num_best=NUM_BEST)
    first = 2**32 - 256
    summary = SearchSummary(NUM_BEST, done=first).plus(program.run(first, 256, 300), 300)
    keys = jnp.stack([search.mask_key(KEY, index) for index in range(2**32, 2**32 + 44)])
    values = np.asarray(jax.jit(jax.vmap(lambda key: objective(LAW.sample(key))))(keys))
    late = [(value, index) for value, index in summary.best if index >= 2**32]
    below = np.sort(values[values <= summary.best[-1][0]])
    assert len(below)
    np.testing.assert_allclose([value for value, _ in late], below, rtol=1e-6)
    assert len({int(jax.random.key_data(search.mask_key(KEY, index))[0]) for index in (0, 2**32, 2**33)}) == 3


def test_chunkings_give_the_same_masks(monkeypatch):
    """A small cache and little memory make masks take turns; an accelerator evaluates several tiles together."""

    def program():
        return SearchProgram(objective, LAW.sample, KEY, mesh=ALONE, num_best=NUM_BEST)

    plenty = program()
    needed = plenty._compiled_for_memory[1].memory_analysis().temp_size_in_bytes
    monkeypatch.setattr(_program, "_CPU_CACHE_BYTES", 1)
    cached = program()
    assert (plenty.chunking, cached.chunking) == (Chunking(1, 256), Chunking(1, 4))
    monkeypatch.setattr(_program, "_usable_memory", lambda device: 1)
    scarce = program()
    assert scarce.chunking == Chunking(1, 1)
    assert cached._compiled_for_memory[1].memory_analysis().temp_size_in_bytes < needed
    several = program()
    several._compiled_for_memory = Chunking(2, 512), several.lowered(Chunking(2, 512)).compile()

    whole = plenty.run(0, 1024, 1000)
    summary = SearchSummary(NUM_BEST).plus(whole, 1000)
    for other in (cached, scarce, several):
        batch = other.run(0, 1024, 1000)
        if other is not several:
            for here, there in zip(whole, batch, strict=True):
                np.testing.assert_allclose(here, there, rtol=1e-6)
        merged = SearchSummary(NUM_BEST).plus(batch, 1000)
        assert [index for _, index in merged.best] == [index for _, index in summary.best]
        np.testing.assert_allclose(merged.moments(), summary.moments(), rtol=1e-6)
        assert other.identity["in flight"] != plenty.identity["in flight"]


def test_lowering_for_an_accelerator_has_no_float64():
    for law in (
        LAW,
        laws.Poisson(jnp.full(D, 0.3, jnp.float32)),
        laws.FixedSize(jnp.full(D, 0.3, jnp.float32), 3),
    ):
        with jax.enable_x64(False):
            program = SearchProgram(
                search.linear_error(X, W), law.sample, KEY, mesh=mesh.over(jax.devices()[:2]), num_best=4
            )
            text = program.lowered(Chunking(2, 512), "tpu").as_text()
        assert "dot_general" in text and "all_gather" in text and "f64" not in text


def test_numbers_of_python():
    """Objectives that are constant, and N as 1e3."""
    result = search.best(lambda mask: 1.5, LAW, 1e3, key=KEY, num_best=2, mesh=ALONE)
    assert (result.values.tolist(), result.indices.tolist(), result.num_masks) == ([1.5, 1.5], [0, 1], 1000)
    assert isinstance(result.num_masks, int) and (result.mean, result.variance) == (1.5, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_masks": 0}, "num_masks is 0; it takes a whole number from 1"),
        ({"num_masks": 10, "num_best": 11}, "num_best is 11; it takes 1 to num_masks = 10"),
        ({"num_masks": 512.5}, "num_masks is 512.5; it takes a whole number from 1"),
        ({"num_masks": float("nan")}, "num_masks is nan"),
        ({"num_best": 0}, "num_best is 0"),
        ({"num_best": 2.0}, "num_best is 2.0; it takes a whole number >= 1"),
        ({"batch": 256.0}, "batch is 256.0; it takes a whole number >= 1"),
        ({"batch": 300, "mesh": ALONE}, "batch is 300 with a mesh of 1 devices; it takes a multiple of 256"),
        ({"batch": 512, "mesh": THREE}, "batch is 512 with a mesh of 3 devices; it takes a multiple of 768"),
        ({"objective": lambda mask: mask}, r"objective returns .*; it takes a function mask -> one floating"),
        ({"objective": lambda mask: jnp.int32(1)}, "objective returns"),
        ({"key": jax.random.key(0, impl="rbg")}, "it takes a threefry2x32 key"),
        ({"key": jax.random.PRNGKey(0)}, "it takes a key of jax.random.key"),
    ],
)
def test_bad_input(change, message):
    arguments = {"objective": objective, "law": LAW, "key": KEY, "num_masks": 512} | change
    with pytest.raises(ValueError, match=message), without_type_checks():
        search.best(**arguments)


def test_bad_levels():
    with pytest.raises(ValueError, match="level is 2"):
        found().quantile(2.0)
