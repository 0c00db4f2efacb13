"""The structured kernel is the plain one, J diag(m) Jᵀ, whatever the network and the mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchprune import kernels
from sketchprune.kernels import _network
from tests.support import normal, quick_jit
from tests.support.networks import NETWORKS, assert_same, instance, matrix, random_mask

few = settings(deadline=None, max_examples=5, derandomize=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_is_the_plain_kernel(name):
    """Symmetric and not, whole and traced, under no mask, a boolean and a traced floating one."""
    apply, params, x = instance(name)
    few_kept, sketch = random_mask(params, 1, density=0.2), random_mask(params, 2)

    @functools.partial(quick_jit, static_argnums=0)
    def results(kernel, params, sketch):
        found = {"sketch": kernel(apply, params, x, mask=sketch)}
        if name not in ("vgg11", "resnet20"):
            found["whole"] = kernel(apply, params, x)
            found["few kept"] = kernel(apply, params, x[:1], x, mask=few_kept)
            found["traced"] = kernel(apply, params, x, mask=sketch, trace_outputs=True)
        if name in ("mlp", "shared"):
            found["whole, traced"] = kernel(apply, params, x, x[1:], trace_outputs=True)
            found["few kept, traced"] = kernel(apply, params, x, mask=few_kept, trace_outputs=True)
        return found

    actual = results(kernels.ntk, params, sketch)
    expected = results(kernels.ntk_reference, params, sketch)
    for case, values in expected.items():
        assert_same(actual[case], values), case


@pytest.mark.parametrize("name", ["mlp", "shared"])
def test_products_trace_norms_and_spectrum(name):
    apply, params, x = instance(name)

    @quick_jit
    def results(params, vector, mask):
        functions = (kernels.trace, kernels.frobenius_norm, kernels.extreme_eigenvalues)
        theta = kernels.ntk_reference(apply, params, x, mask=mask)
        product = kernels.ntk_vector_product(apply, params, x, vector, mask=mask)
        return theta, product, *(function(apply, params, x, mask=mask) for function in functions)

    vector = normal(5, len(x), apply(params, x).shape[1])
    for mask in (None, random_mask(params, 3)):
        theta, product, trace, norm, extremes = results(params, vector, mask)
        assert_same(product, jnp.einsum("nmkl,ml->nk", theta, vector))
        assert_same(trace, jnp.einsum("nnkk->", theta))
        assert_same(norm, jnp.linalg.norm(matrix(theta)))
        assert_same(jnp.array(extremes), jnp.linalg.eigvalsh(matrix(theta))[jnp.array([0, -1])], 1e-10)


@pytest.mark.parametrize("name", ["unusual", "attention", "shared"])
def test_column_norms_are_those_of_the_jacobian(name):
    apply, params, x = instance(name)
    whole, steps = params, params.get("steps")
    params = {name: leaf for name, leaf in params.items() if name != "steps"}

    def outputs(params):
        return apply({**whole, **params}, x)

    squares = jax.tree.map(lambda j: jnp.sum(j**2, axis=(0, 1)), quick_jit(jax.jacrev(outputs))(params))
    norms = quick_jit(lambda params: kernels.column_norms(apply, params, x))(whole)
    assert jax.tree.map(jnp.shape, norms) == jax.tree.map(jnp.shape, whole)
    if steps is not None:
        assert not norms.pop("steps").any()
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-12), norms, squares)


@given(seed=st.integers(0, 1000))
@few
def test_symmetric_and_positive(seed):
    apply, params, x = instance("mlp")
    params = jax.tree.map(lambda w: normal(seed, *w.shape), params)
    theta = matrix(kernels.ntk(apply, params, x, mask=random_mask(params, seed)))
    assert_same(theta, theta.T, 1e-14)
    assert jnp.linalg.eigvalsh(theta)[0] >= -1e-13 * jnp.trace(theta)


@given(order=st.permutations(range(5)))
@few
def test_permuted_samples(order):
    apply, params, x = instance("mlp")
    theta, order = kernels.ntk(apply, params, x), jnp.array(order)
    assert_same(kernels.ntk(apply, params, x[order]), theta[order][:, order], 1e-14)


def test_masked_is_the_kernel_of_the_kept_columns():
    apply, params, x = instance("mlp")
    mask = random_mask(params, 4, density=0.3)
    jacobian = quick_jit(jax.jacrev(apply))(params, x)
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
        quick_jit(jax.grad(functools.partial(total, kernel), argnums=(0, 1)))(params, sketch)
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
    kernel = quick_jit(functools.partial(kernels.ntk, apply))
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


def test_eigenvalues_when_the_krylov_space_is_exhausted():
    identity = jnp.eye(4)
    least, greatest = kernels.extreme_eigenvalues(lambda w, x: x @ w, jnp.ones((4, 2)), 2 * identity)
    np.testing.assert_allclose([least, greatest], 4, rtol=1e-12)
    low_rank = normal(0, 6, 2) @ normal(1, 2, 30)
    values = jnp.linalg.eigvalsh(low_rank @ low_rank.T)
    extremes = kernels.extreme_eigenvalues(lambda w, x: x @ w, jnp.ones((30, 1)), low_rank)
    np.testing.assert_allclose(extremes, values[jnp.array([0, -1])], atol=1e-12 * values[-1])
    least, greatest = kernels.extreme_eigenvalues(
        lambda w, x: x @ w, jnp.ones((30, 1)), normal(2, 9, 30), num_products=3
    )
    values = jnp.linalg.eigvalsh(normal(2, 9, 30) @ normal(2, 9, 30).T)
    assert values[0] < least < greatest < values[-1]


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


def test_random_masks_of_one_density_share_programs():
    """Where each of 20 masks had one of its own; counted by the traces of apply."""
    params = {"first": normal(0, 40, 60), "bias": normal(1, 60), "second": normal(2, 60, 5)}
    traces = []

    def apply(params, x):
        traces.append(x)
        return jnp.tanh(x @ params["first"] + params["bias"]) @ params["second"]

    programs = 0
    for seed in range(20):
        before = len(traces)
        kernels.ntk(apply, params, normal(3, 2, 40), mask=random_mask(params, seed, density=0.05))
        programs += len(traces) > before
    assert programs <= 4


def test_bounds_on_what_is_kept():
    """They hold for any numbers, never exceed the leaf, and stay within twice what a leaf keeps and its deviation."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        leaves = [np.empty(size) for size in rng.integers(1, 10**5, 4)]
        kept = [int(leaf.size * rng.random() ** rng.integers(1, 20)) for leaf in leaves]
        bounds = _network._stable_bounds([*kept, None], [*leaves, np.empty(7)])
        assert bounds[4] is None
        for count, bound, leaf in zip(kept, bounds, leaves, strict=False):
            assert count <= bound <= min(leaf.size, max(2 * count + 8 * count**0.5, 64 + 32) + 1)
    assert _network._stable_bounds([0, None, 0], [np.ones(3)] * 3) == (0, None, 0)


def test_an_apply_that_cannot_be_hashed():
    class Apply:
        __hash__ = None

        def __call__(self, w, x):
            return x @ w

    assert kernels.ntk(Apply(), jnp.ones((2, 1)), jnp.ones((1, 2))).item() == 2


LINEAR = (lambda p, x: x @ p["w"], {"w": jnp.ones((3, 2)), "n": jnp.int32(1)}, jnp.ones((4, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": {"w": jnp.ones((2, 3)), "n": jnp.ones(())}}, r"mask\['w'\] has shape \(2, 3\).*\(3, 2\)"),
        ({"mask": {"w": jnp.ones((3, 2))}}, r"mask\['n'\] is missing"),
        ({"mask": {**LINEAR[1], "v": jnp.ones(1)}}, r"mask\['v'\] is not a leaf of params"),
        ({"mask": jnp.ones((3, 2))}, "mask takes the structure of params"),
        ({"mask": {"w": jnp.ones((3, 2), int), "n": True}}, r"mask\['w'\] has dtype int64; .* booleans"),
        ({"params": {"w": jnp.ones((3, 2)) * 1j}}, r"params\['w'\] is complex"),
        ({"params": {"w": jnp.ones((3, 2), int)}}, "params has no floating leaf"),
        ({"params": {}}, "params has no floating leaf"),
        ({"apply": lambda p, x: x @ p["w"] * 1j}, "apply returns complex128"),
        ({"apply": lambda p, x: jnp.argmax(x @ p["w"], -1)[:, None]}, "apply returns int64"),
        ({"apply": lambda p, x: (x @ p["w"])[:, 0]}, r"apply returns shape \(4,\) for 4 samples.*\(4, K\)"),
        ({"apply": lambda p, x: (x @ p["w"]).mean(0, keepdims=True)}, r"apply returns shape \(1, 2\)"),
        ({"apply": lambda p, x: (x @ p["w"], x)}, "apply returns .* for 4 samples"),
        ({"apply": lambda p, x: (x @ p["w"])[:, :0]}, r"apply returns shape \(4, 0\)"),
        ({"apply": lambda p, x: (x @ p["w"]) if len(x) > 1 else x}, r"apply returns shape \(1, 3\) for one"),
        ({"x": jnp.ones((0, 3))}, r"x has shape \(0, 3\); it takes at least one sample"),
        ({"x": jnp.ones(())}, r"x has shape \(\); it takes at least one sample"),
        ({"x": [[1.0, 2.0, 3.0]]}, "x is a list; it takes an array, samples on the first axis"),
        ({"x2": jnp.ones((0, 3))}, r"x2 has shape \(0, 3\)"),
        ({"x2": jnp.ones((2, 5))}, r"x2 holds samples of shape \(5,\); it takes those of x1, \(3,\)"),
        ({"block_size": 0}, "block_size is 0; it takes a whole number >= 1"),
    ],
)
def test_bad_input(change, message):
    apply, params, x = LINEAR
    given = {"apply": apply, "params": params, "x": x, **change}
    x2 = given.pop("x2", None)
    with pytest.raises(ValueError, match=message):
        kernels.ntk(given.pop("apply"), given.pop("params"), given.pop("x"), x2, **given)


def test_bad_input_elsewhere():
    with pytest.raises(ValueError, match=r"vector has shape \(4,\); it takes that of the outputs, \(4, 2\)"):
        kernels.ntk_vector_product(*LINEAR, jnp.ones(4))
    for wrong in (0, 2.5, True):
        with pytest.raises(ValueError, match=f"num_products is {wrong}; it takes a whole number >= 1"):
            kernels.extreme_eigenvalues(*LINEAR, num_products=wrong)
    for function in (kernels.trace, kernels.column_norms, kernels.frobenius_norm, kernels.ntk_reference):
        with pytest.raises(ValueError, match=r"x has shape \(0, 3\)"):
            function(*LINEAR[:2], jnp.ones((0, 3)))
        with pytest.raises(ValueError, match="apply returns int64"):
            function(lambda p, x: jnp.zeros((4, 1), int), *LINEAR[1:])
