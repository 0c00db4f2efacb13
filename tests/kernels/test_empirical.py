"""The structured kernel is the plain one, J diag(m) Jᵀ, whatever the network and the mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from sketchprune import kernels
from tests.support import few, normal
from tests.support.networks import NETWORKS, assert_same, instance, matrix, random_mask


@pytest.mark.parametrize("name", NETWORKS)
def test_is_the_plain_kernel(name):
    """Symmetric and not, whole and traced, under no mask, a boolean and a traced floating one."""
    apply, params, x = instance(name)
    few_kept, sketch = random_mask(params, 1, density=0.2), random_mask(params, 2)

    @functools.partial(jax.jit, static_argnames="kernel")
    def results(params, sketch, *, kernel):
        found = {"sketch": kernel(apply, params, x, mask=sketch)}
        if name not in ("vgg", "resnet"):
            found["whole"] = kernel(apply, params, x)
            found["few kept"] = kernel(apply, params, x[:1], x, mask=few_kept)
            found["traced"] = kernel(apply, params, x, mask=sketch, trace_outputs=True)
        if name in ("mlp", "shared"):
            found["whole, traced"] = kernel(apply, params, x, x[1:], trace_outputs=True)
            found["few kept, traced"] = kernel(apply, params, x, mask=few_kept, trace_outputs=True)
        return found

    actual = results(params, sketch, kernel=kernels.ntk)
    expected = results(params, sketch, kernel=kernels.ntk_reference)
    for case, values in expected.items():
        assert_same(actual[case], values), case


@given(seed=st.integers(0, 1000))
@few(5)
def test_symmetric_and_positive(seed):
    apply, params, x = instance("mlp")
    params = jax.tree.map(lambda w: normal(seed, *w.shape), params)
    theta = matrix(kernels.ntk(apply, params, x, mask=random_mask(params, seed)))
    assert_same(theta, theta.T, 1e-14)
    assert jnp.linalg.eigvalsh(theta)[0] >= -1e-13 * jnp.trace(theta)


@given(order=st.permutations(range(5)))
@few(5)
def test_permuted_samples(order):
    apply, params, x = instance("mlp")
    theta, order = kernels.ntk(apply, params, x), jnp.array(order)
    assert_same(kernels.ntk(apply, params, x[order]), theta[order][:, order], 1e-14)


def test_masked_is_the_kernel_of_the_kept_columns():
    apply, params, x = instance("mlp")
    mask = random_mask(params, 4, density=0.3)
    jacobian = jax.jit(jax.jacrev(apply))(params, x)
    columns = jnp.concatenate(
        [
            j.reshape(*j.shape[:2], -1)[:, :, kept.reshape(-1)]
            for j, kept in zip(jax.tree.leaves(jacobian), jax.tree.leaves(mask), strict=True)
        ],
        axis=2,
    )
    assert_same(kernels.ntk(apply, params, x, mask=mask), jnp.einsum("nkp,mlp->nmkl", columns, columns))


def test_eager_jitted_and_mapped():
    apply, params, x = instance("mlp")
    sketches = [random_mask(params, seed) for seed in range(3)]
    eager = [kernels.ntk(apply, params, x, mask=mask) for mask in sketches]
    jitted = jax.jit(lambda params, mask: kernels.ntk(apply, params, x, mask=mask))
    assert_same(jitted(params, sketches[0]), eager[0], 1e-14)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *sketches)
    assert_same(jax.vmap(jitted, in_axes=(None, 0))(params, stacked), jnp.stack(eager), 1e-14)
    scaled = jax.vmap(lambda scale: jitted(jax.tree.map(lambda w: scale * w, params), sketches[0]))
    assert_same(scaled(jnp.array([1.0, 0.5]))[0], eager[0], 1e-14)


def test_can_be_differentiated():
    params, x = [normal(0, 4, 3), normal(1, 3, 2)], normal(2, 3, 4)
    sketch = random_mask(params, 2)

    def total(kernel, params, mask):
        theta = kernel(lambda p, x: jnp.tanh(jnp.tanh(x @ p[0]) @ p[1]), params, x, mask=mask)
        return jnp.sum(theta**2)

    actual, expected = (
        jax.jit(jax.grad(functools.partial(total, kernel), argnums=(0, 1)))(params, sketch)
        for kernel in (functools.partial(kernels.ntk, block_size=2), kernels.ntk_reference)
    )
    jax.tree.map(assert_same, actual, expected)


def test_linen_nnx_and_plain_agree():
    apply, params, x = instance("mlp")

    class Nnx(nnx.Module):
        def __init__(self):
            sizes = (4, 7, 6, 3)
            layers = [nnx.Linear(a, b, rngs=nnx.Rngs(0)) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
            for layer, values in zip(layers, params.values(), strict=True):
                layer.kernel.set_value(values["kernel"])
                layer.bias.set_value(values["bias"])
            self.layers = nnx.List(layers)

        def __call__(self, x):
            for layer in self.layers[:-1]:
                x = nnx.relu(layer(x))
            return self.layers[-1](x)

    graph, state = nnx.split(Nnx())

    def plain(params, x):
        for layer in list(params.values())[:-1]:
            x = jnp.maximum(x @ layer["kernel"] + layer["bias"], 0)
        return x @ params["Dense_2"]["kernel"] + params["Dense_2"]["bias"]

    linen = kernels.ntk(apply, params, x)
    assert_same(kernels.ntk(lambda state, x: nnx.merge(graph, state)(x), state, x), linen, 1e-14)
    assert_same(kernels.ntk(plain, params, x), linen, 1e-14)
    mask = random_mask(state, 1, density=0.5)
    masked = kernels.ntk(lambda state, x: nnx.merge(graph, state)(x), state, x, mask=mask)
    same = {
        f"Dense_{n}": {"kernel": mask["layers"][n]["kernel"][...], "bias": mask["layers"][n]["bias"][...]}
        for n in range(3)
    }
    assert_same(masked, kernels.ntk(plain, params, x, mask=same), 1e-14)


@pytest.mark.parametrize("name", ["lenet", "attention"])
def test_float32_is_close(name):
    apply, params, x = instance(name)
    single = jax.tree.map(lambda w: w.astype(jnp.float32), params)
    kernel = jax.jit(functools.partial(kernels.ntk, apply))
    theta = kernel(single, x.astype(jnp.float32))
    assert theta.dtype == jnp.float32
    assert_same(theta, kernel(params, x), 1e-5)


def test_half_precision_keeps_its_dtype():
    theta = kernels.ntk(lambda w, x: x @ w, jnp.ones((3, 2), jnp.bfloat16), jnp.ones((2, 3), jnp.bfloat16))
    assert theta.dtype == jnp.bfloat16
    assert (theta[:, :, 0, 0] == 3).all()
    assert kernels.extreme_eigenvalues(
        lambda w, x: x @ w, jnp.ones((3, 1), jnp.bfloat16), 2 * jnp.eye(3, dtype=jnp.bfloat16)
    ) == (4, 4)


def test_the_dtype_is_that_of_the_outputs():
    def apply(w, x):
        return (x @ w).astype(jnp.float16)

    for function in (kernels.ntk, kernels.ntk_reference, kernels.frobenius_norm):
        assert function(apply, jnp.ones((3, 2)), jnp.ones((2, 3))).dtype == jnp.float16


def test_squares_of_entries_may_overflow():
    x = jnp.float32(1e13) * jnp.array([[3.0, 0.0], [0.0, 2.0]], jnp.float32)
    norm = kernels.frobenius_norm(lambda w, x: x @ w, jnp.ones((2, 1), jnp.float32), x)
    np.testing.assert_allclose(norm, 97**0.5 * 1e26, rtol=1e-6)


def test_nothing_to_differentiate_in():
    """An output that depends on no parameter has the kernel 0, and so has one under an empty mask."""
    apply, params, x = instance("mlp")
    nothing = jax.tree.map(lambda w: jnp.zeros(w.shape, bool), params)
    assert not kernels.ntk(apply, params, x, mask=nothing).any()
    assert not kernels.ntk(lambda p, x: x, params, x).any()
    assert kernels.trace(lambda p, x: x, params, x) == 0
    assert kernels.frobenius_norm(apply, params, x, mask=nothing) == 0
    assert kernels.extreme_eigenvalues(apply, params, x, mask=nothing) == (0, 0)


def test_nan_stays_where_it_is():
    apply, params, x = instance("mlp")
    theta = kernels.ntk(apply, params, x.at[1].set(jnp.nan))
    assert jnp.isnan(theta[1]).any() and jnp.isnan(theta[:, 1]).any()
    assert_same(theta[::2, ::2], kernels.ntk(apply, params, x)[::2, ::2], 1e-14)
    broken = jax.tree.map(lambda w: w, params)
    broken["Dense_0"]["kernel"] = broken["Dense_0"]["kernel"].at[0, 0].set(jnp.nan)
    for mask in (None, random_mask(params, 1, density=0.2), random_mask(params, 2)):
        assert jnp.isnan(kernels.ntk(apply, broken, x, mask=mask)).any()
    assert all(jnp.isnan(value) for value in kernels.extreme_eigenvalues(apply, broken, x))


def test_numpy_arrays_and_python_numbers():
    """As parameters, masks and samples, where JAX's arrays may stand."""
    apply, params, x = instance("mlp")
    mask = random_mask(params, 2)
    host_params, host_mask, host_x = jax.tree.map(np.asarray, (params, mask, x))
    theta = kernels.ntk(apply, host_params, host_x, host_x[:2], mask=host_mask)
    np.testing.assert_array_equal(theta, kernels.ntk(apply, params, x, x[:2], mask=mask))
    assert (
        kernels.ntk(lambda p, x: p["scale"] * x + p["count"], {"scale": 2.0, "count": 3}, np.ones((1, 1))).item() == 1
    )


def test_what_apply_closes_over_is_that_of_its_first_call():
    """As under jit; a new function is read anew."""
    means = {"x": jnp.zeros(2)}

    def centred():
        return lambda w, x: (x - means["x"]) @ w

    apply, x, w = centred(), jnp.array([[3.0, 4.0]]), jnp.ones((2, 1))
    assert kernels.ntk(apply, w, x).item() == 25
    means["x"] = jnp.array([3.0, 0.0])
    assert kernels.ntk(apply, w, x).item() == 25
    assert kernels.ntk(centred(), w, x).item() == 16
