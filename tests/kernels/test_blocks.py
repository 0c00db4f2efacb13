"""Kernels in blocks of samples and of columns: the blocks change nothing, and memory stays small."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sketchprune import kernels
from sketchprune.kernels import _blocks, _plan, columns
from sketchprune.kernels._blocks import cut
from tests.support import normal
from tests.support.networks import assert_same, instance, matrix, random_mask


def grouped(params, x):
    """A convolution of two groups, scales that are no layer's, and a dense layer with a bias."""
    convolve = functools.partial(lax.conv_general_dilated, window_strides=(2, 1), padding="VALID")
    hidden = convolve(x, params["kernel"], dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2)
    return jnp.tanh(params["scale"] * hidden).mean((1, 2)) @ params["dense"] + params["bias"]


def test_in_little_memory(monkeypatch):
    """As if memory held few samples: nothing is stored, columns come in chunks, and blocks overlap."""
    monkeypatch.setattr(_plan, "MAX_STORED", 1000)
    monkeypatch.setattr(_plan, "MAX_PAIRED", 1000)
    params = {"kernel": normal(0, 3, 2, 2, 6), "scale": normal(1, 6), "dense": normal(2, 6, 3), "bias": normal(3, 3)}
    x = normal(7, 7, 9, 4, 4)
    few_kept = random_mask(params, 1, density=0.2)
    sketch = random_mask(params, 2)

    @jax.jit
    def results(params, sketch):
        return (
            kernels.ntk(grouped, params, x),
            kernels.ntk(grouped, params, x, x[:3], mask=few_kept),
            kernels.ntk(grouped, params, x[:5], x, mask=sketch, trace_outputs=True),
            kernels.frobenius_norm(grouped, params, x, mask=sketch),
            kernels.trace(grouped, params, x, mask=sketch),
        )

    whole, kept, crossed, norm, trace = results(params, sketch)
    plain = jax.jit(functools.partial(kernels.ntk_reference, grouped))
    assert_same(whole, plain(params, x, mask=jax.tree.map(jnp.ones_like, params)))
    assert_same(kept, plain(params, x, mask=jax.tree.map(jnp.float64, few_kept))[:, :3])
    theta = plain(params, x, mask=sketch)
    assert_same(crossed, jnp.einsum("nmkk->nm", theta)[:5])
    assert_same(norm, jnp.linalg.norm(matrix(theta)))
    assert_same(trace, jnp.einsum("nnkk->", theta))


@pytest.mark.parametrize("block_size", [1, 2, 3, 100])
def test_blocks_change_nothing(block_size):
    apply, params, x = instance("mlp")
    mask = random_mask(params, 2)
    actual = kernels.ntk(apply, params, x, mask=mask, block_size=block_size)
    assert_same(actual, kernels.ntk(apply, params, x, mask=mask), 1e-14)


def test_large_kernels_fit_in_memory():
    """1,000 digits, 10 outputs, 1.9 million parameters: compiled for less than 2 GiB in all."""
    widths = (64, 1350, 1300, 10)
    params = [jnp.zeros(shape, jnp.float32) for shape in zip(widths[:-1], widths[1:], strict=True)]
    assert sum(weight.size for weight in params) > 1.85e6

    def apply(params, x):
        return nn.relu(nn.relu(x @ params[0]) @ params[1]) @ params[2]

    x = jnp.zeros((1000, 64), jnp.float32)
    mask = [weight > 0 for weight in params]
    for masked in (False, True):
        compiled = (
            jax.jit(lambda params, mask, masked=masked: kernels.ntk(apply, params, x, mask=mask if masked else None))
            .lower(params, mask)
            .compile()
        )
        assert 4e8 < memory(compiled) < 2**31


def test_few_columns_of_many_are_formed_by_themselves():
    """A layer of 2.4 million weights at 16 positions, of which 0.2 % are kept: the rest never exists."""
    params = [jnp.zeros(shape, jnp.float32) for shape in ((768, 3072), (3072, 768), (768, 10))]
    kept = [jnp.arange(weight.size).reshape(weight.shape) % 500 == 0 for weight in params]
    x = jnp.zeros((200, 16, 768), jnp.float32)

    def apply(params, x):
        return jnp.tanh(nn.relu(x @ params[0]) @ params[1]).mean(1) @ params[2]

    compiled = jax.jit(lambda params: kernels.ntk(apply, params, x, mask=kept)).lower(params).compile()
    assert memory(compiled) < 2**29


def test_passes_hold_few_samples_where_a_pass_is_what_takes_memory():
    """Only 32 scales are trained, of images with 131,072 entries: a pass over all would take 7 GiB."""
    x = jnp.zeros((400, 64, 64, 32), jnp.float32)

    def apply(scale, x):
        for _ in range(4):
            x = jnp.tanh(scale * x)
        return x.mean((1, 2))

    compiled = jax.jit(lambda scale: kernels.ntk(apply, scale, x)).lower(jnp.ones(32, jnp.float32)).compile()
    assert memory(compiled) < 2**30


def memory(compiled):
    sizes = compiled.memory_analysis()
    return sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes


def test_a_norm_counts_samples_of_overlapping_blocks_once():
    """599 samples are cut into three blocks of 200, of which the last two share a sample."""
    params = [normal(0, 64, 128), normal(1, 128, 1)]
    x = normal(2, 599, 64)

    def apply(params, x):
        return jnp.tanh(x @ params[0]) @ params[1]

    cuts = blocks_of(lambda: kernels.frobenius_norm(apply, params, x))
    assert [spans.starts.tolist() for spans in cuts] == [[0, 200, 399]]
    theta = jax.jit(functools.partial(kernels.ntk_reference, apply, trace_outputs=True))(params, x)
    np.testing.assert_allclose(kernels.frobenius_norm(apply, params, x), jnp.linalg.norm(theta), rtol=1e-12)


def test_column_norms_count_samples_of_overlapping_blocks_once(monkeypatch):
    """Of weights at one position, at several, and of a leaf that is no layer's."""
    monkeypatch.setattr(_plan, "MAX_STORED", 800)
    params = {"first": normal(0, 3, 4), "last": normal(1, 4, 2), "scale": normal(2, 4)}
    x = normal(3, 7, 5, 3)

    def apply(params, x):
        return (params["scale"] * jnp.tanh(x @ params["first"])).mean(1) @ params["last"]

    cuts = blocks_of(lambda: kernels.column_norms(apply, params, x))
    (spans,) = cuts
    assert (spans.starts.tolist(), spans.new.tolist()) == ([0, 3, 4], [0, 3, 6])
    norms = kernels.column_norms(apply, params, x)
    jacobian = jax.jit(jax.jacrev(apply))(params, x)
    jax.tree.map(assert_same, norms, jax.tree.map(lambda j: jnp.sum(j**2, axis=(0, 1)), jacobian))


def blocks_of(run):
    """How samples were cut into blocks in a program that is compiled while ``run`` is called."""
    cuts = []
    with pytest.MonkeyPatch.context() as patch:
        for module in (_blocks, columns):
            patch.setattr(module, "cut", lambda *args: cuts.append(cut(*args)) or cuts[-1])
        run()
    return cuts
