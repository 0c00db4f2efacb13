"""The form J[k, q, j, i] = Σ_t a[q, t, i] g[k, q, t, j] holds for every product it is found in."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from sketchprune.kernels.sensitivities import sensitivities
from sketchprune.kernels.structure import read
from tests.support import few, normal


def check_form(apply, params, x):
    """Every leaf's Jacobian from the structure equals the one from automatic differentiation."""
    structure = read(apply, params, x[:1])
    leaves, tree = jax.tree.flatten(params)

    @jax.jit
    def both(leaves, sample):
        found = sensitivities(structure, leaves, sample)
        expected = jax.jacrev(lambda leaves: apply(tree.unflatten(leaves), sample)[0])(leaves)
        return found, expected

    found, expected = both(leaves, x[:1])
    scale = max(abs(leaf).max() for leaf in expected)
    for layer, a, g in zip(structure.layers, found.inputs, found.outputs, strict=True):
        assert a.shape == (layer.groups, layer.positions, layer.inputs)
        assert g.shape[1:] == (layer.groups, layer.positions, layer.outputs)
        jacobian = jnp.einsum("qti,kqtj->kqji", a, g)
        columns = jax.vmap(lambda *own, layer=layer: layer.columns(own))(*expected)
        np.testing.assert_allclose(abs(jacobian), abs(columns), atol=1e-13 * scale)
    for leaf, jacobian in zip(structure.plain, found.jacobians, strict=True):
        np.testing.assert_allclose(jacobian, expected[leaf].reshape(len(jacobian), -1), atol=1e-13 * scale)
    return structure


@given(
    order=st.permutations(range(5)),
    weight_order=st.permutations(range(4)),
    weight_left=st.booleans(),
    groups=st.integers(1, 3),
)
@few(6)
def test_any_dot_general(order, weight_order, weight_left, groups):
    sizes = {"n": 1, "q": groups, "t": 2, "i": 3, "c": 2, "j": 4}
    fed = "".join("nqtic"[at] for at in order)
    weight = "".join("qicj"[at] for at in weight_order)
    x = normal(0, 1, *(sizes[axis] for axis in fed if axis != "n"))
    params = normal(1, *(sizes[axis] for axis in weight))
    spec = f"{weight},{fed}->nqtj" if weight_left else f"{fed},{weight}->nqtj"

    def apply(w, x):
        x = jnp.moveaxis(x, 0, fed.index("n"))
        return jnp.tanh(jnp.einsum(spec, *((w, x) if weight_left else (x, w)))).reshape(1, -1)

    structure = check_form(apply, params, x)
    assert [(layer.groups, layer.positions, layer.inputs, layer.outputs) for layer in structure.layers] == [
        (groups, 2, 6, 4)
    ]


@given(
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    spread=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    padding=st.sampled_from(["SAME", "VALID", ((2, 0), (-1, 3))]),
    numbers=st.sampled_from([("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("HWNC", "IHWO", "CNHW")]),
)
@few(6)
def test_any_convolution(stride, dilation, spread, groups, padding, numbers):
    if spread == 2 and isinstance(padding, str):
        padding = ((1, 1), (1, 1))
    shapes = [
        [dict(N=1, H=7, W=6, C=4)[axis] for axis in numbers[0]],
        [dict(H=3, W=2, I=4 // groups, O=6)[axis] for axis in numbers[1]],
    ]
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=(stride, 1),
        padding=padding,
        lhs_dilation=(1, spread),
        rhs_dilation=(1, dilation),
        dimension_numbers=numbers,
        feature_group_count=groups,
    )

    def apply(w, x):
        images = x.reshape(shapes[0])
        return jnp.sin(convolve(images, w)).reshape(1, -1)[:, ::5]

    structure = check_form(apply, normal(1, *shapes[1]), normal(0, 1, *shapes[0]))
    (layer,) = structure.layers
    assert (layer.groups, layer.outputs) == (groups, 6 // groups)


def test_leaves_are_followed():
    """Through nested jit and remat, reshapes, transposes, dtypes and scalars, to weights and their biases."""

    @jax.jit
    def inner(p, x):
        return jax.checkpoint(lambda w, x: jnp.tanh(x @ w.T))(p["a"] * 0.5, x)

    def apply(p, x):
        h = jnp.matmul(inner(p, x), jnp.reshape(p["b"], (3, 4))[::-1] / p["scale"]) + 2 * p["c"]
        h = nn.relu(h.astype(jnp.float32)) @ p["d"].astype(jnp.float32) + p["e"].astype(jnp.float32)
        return -h.astype(jnp.float64)

    params = {
        "a": normal(0, 3, 5),
        "b": normal(1, 12),
        "c": normal(2, 4),
        "d": normal(3, 4, 2),
        "e": normal(4, 2),
        "scale": jnp.float64(3.0),
    }
    structure = check_form_loosely(apply, params, normal(5, 1, 5))
    assert [layer.leaves for layer in structure.layers] == [(0,), (1, 2), (3, 4)]
    assert structure.plain == (5,)


def check_form_loosely(apply, params, x):
    """For networks that compute in float32 inside."""
    structure = read(apply, params, x)
    leaves, tree = jax.tree.flatten(params)
    found = jax.jit(lambda leaves: sensitivities(structure, leaves, x))(leaves)
    expected = jax.jit(jax.jacrev(lambda leaves: apply(tree.unflatten(leaves), x)[0]))(leaves)
    for layer, a, g in zip(structure.layers, found.inputs, found.outputs, strict=True):
        columns = jax.vmap(lambda *own, layer=layer: layer.columns(own))(*expected)
        np.testing.assert_allclose(abs(jnp.einsum("qti,kqtj->kqji", a, g)), abs(columns), atol=1e-5)
    return structure


@pytest.mark.parametrize(
    ("apply", "layers", "plain"),
    [
        pytest.param(lambda w, x: jnp.tanh(x @ w) @ w, 0, 1, id="used twice"),
        pytest.param(lambda w, x: lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, length=2)[0], 0, 1, id="in a scan"),
        pytest.param(lambda w, x: x @ (w * jnp.arange(3.0)), 0, 1, id="scaled entry by entry"),
        pytest.param(lambda w, x: x @ w[:, 1:], 0, 1, id="sliced"),
        pytest.param(lambda w, x: x @ lax.stop_gradient(w), 0, 1, id="stopped"),
        pytest.param(lambda w, x: x**2, 0, 0, id="unused"),
        pytest.param(lambda w, x: (x @ w) * 0.0, 1, 0, id="without effect"),
    ],
)
def test_what_is_not_a_layer(apply, layers, plain):
    structure = check_form(apply, normal(0, 3, 3), normal(1, 1, 3))
    assert (len(structure.layers), len(structure.plain)) == (layers, plain)


def test_a_bias_needs_one_entry_for_each_output():
    x, w = normal(0, 1, 4, 3), normal(1, 3, 2)
    for bias, plain in [(normal(2, 2), ()), (normal(2, 4, 2), (0,)), (normal(2, 1), (0,))]:
        structure = check_form(lambda p, x: jnp.sin(x @ p[1] + p[0]).reshape(1, -1), (bias, w), x)
        assert structure.plain == plain


def test_a_product_used_elsewhere_keeps_its_bias_apart():
    params = (normal(1, 2), normal(2, 3, 2))
    structure = check_form(lambda p, x: (lambda y: jnp.sin(y + p[0]) * y)(x @ p[1]), params, normal(0, 1, 3))
    assert structure.plain == (0,)


def test_other_leaves_are_left_out():
    params = {"key": jax.random.key(0), "steps": jnp.int32(3), "table": jnp.arange(3), "w": normal(0, 3, 2)}
    structure = read(lambda p, x: x[:, p["table"]] @ p["w"] * p["steps"], params, normal(1, 1, 3))
    assert [layer.leaves for layer in structure.layers] == [(3,)]
    assert structure.plain == ()


def test_custom_derivatives_are_kept():
    """A relu has derivative 0 at 0; unfolded into max(x, 0) it would have ½, and dead units would count."""
    structure = read(lambda w, x: nn.relu(x @ w), jnp.zeros((2, 3)), jnp.ones((1, 2)))
    found = sensitivities(structure, [jnp.zeros((2, 3))], jnp.ones((1, 2)))
    assert not found.outputs[0].any()


@pytest.mark.parametrize(("stride", "dilation"), [(1, 2), (2, 1)])
def test_banded_convolution(stride, dilation):
    """With few channels a convolution is evaluated as banded products: same values, same derivatives."""
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=(stride, 2),
        padding=((1, 2), (0, 1)),
        rhs_dilation=(dilation, 1),
        dimension_numbers=("NCHW", "OIHW", "NHWC"),
    )

    def apply(p, x):
        h = jnp.sin(convolve(x, p[0])).transpose(0, 3, 1, 2)
        return convolve(h, p[1]).reshape(1, -1)[:, ::7]

    params = (normal(0, 3, 2, 3, 3), normal(1, 4, 3, 2, 2))
    structure = check_form(apply, params, normal(2, 1, 2, 9, 8))
    text = str(jax.make_jaxpr(lambda p, x: sensitivities(structure, list(p), x))(params, normal(2, 1, 2, 9, 8)))
    assert "dot_general" in text


@pytest.mark.parametrize(("strides", "padding"), [((1, 2), "SAME"), ((2, 3), "SAME"), ((2, 3), "VALID")])
def test_max_pooling_with_ties(strides, padding):
    """The derivative of a maximum goes to the first of equal entries, as in XLA's own pooling."""
    x = jnp.round(normal(0, 1, 6, 7, 2))

    def apply(scale, x):
        return nn.max_pool(x * scale, (2, 3), strides, padding=padding).reshape(1, -1)[:, ::3]

    check_form(apply, jnp.ones((6, 7, 2)), x)
