"""Max pooling and biases, once allowed: the network that is left, path by path, and the authors' derivative."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import paths
from tests.support import close, flat, normal

INPUTS = 3
PARAMS = {"w": normal(1, INPUTS, 4), "b": normal(2, 4), "v": normal(3, 2, 2), "c": normal(4, 2)}
MASK = {"w": normal(5, INPUTS, 4) > -0.5, "b": jnp.ones(4), "v": jnp.array([[1, 1], [0, 1]]), "c": jnp.ones(2)}
U = abs(normal(6, INPUTS))
ALLOWED = {"allow_max_and_bias": True}


def pooled(params, x):
    """A layer with biases, the larger of two neighbours, and another layer with biases."""
    hidden = nn.relu(x @ params["w"] + params["b"])
    return nn.max_pool(hidden[..., None], (2,), (2,))[..., 0] @ params["v"] + params["c"]


def layer(kernel, bias, *, last=False):
    """The edges of a layer with biases: its last input is the constant one, which it hands on unless it is the last."""
    weights = np.concatenate([kernel, bias[None]])
    indices, coefficients = np.arange(weights.size).reshape(weights.shape), np.ones(weights.shape)
    if not last:
        constant = np.arange(len(weights)) == len(weights) - 1
        indices = np.column_stack([indices, np.full(len(weights), -1)])
        coefficients = np.column_stack([coefficients, constant])
    return paths.Edges(weights, indices, coefficients, indices.shape[1:])


def network_that_is_left(params, u, power):
    """All paths, once only the largest of each two neighbours in the network of powers is passed on."""
    hidden = u @ abs(params["w"]) ** power + abs(params["b"]) ** power
    choice = np.zeros((5, 3))
    for pool in range(2):
        choice[2 * pool + np.argmax(hidden[2 * pool : 2 * pool + 2]), pool] = 1
    choice[4, 2] = 1
    pooling = paths.Edges(None, np.full(choice.shape, -1), choice, (3,))
    kept = [np.concatenate([MASK[kernel], MASK[bias][None]]) for kernel, bias in ("wb", "vc")]
    layers = [layer(params["w"], params["b"]), pooling, layer(params["v"], params["c"], last=True)]
    found = paths.enumerate_paths(layers, [kept[0], None, kept[1]])
    return found, np.append(u, 1)[found.units[:, 0]]


def stacked(tree):
    """Leaves in the order of the enumeration's weights."""
    return flat([tree[name] for name in "wbvc"])


@jax.jit
def formulas(params, mask, u, vector):
    """All that is found without listing paths."""
    arguments, options = (pooled, params, (INPUTS,)), {"u": u, "mask": mask, **ALLOWED}
    norms = [paths.path_norm(*arguments, power, **options) for power in (1, 2)]
    spectrum = paths.spectrum(*arguments, count=2, **options)
    return norms, paths.trace(*arguments, **options), paths.gram_product(*arguments, vector, **options), spectrum


def test_formulas_are_those_of_the_network_that_is_left():
    masked = {name: np.asarray(leaf * MASK[name]) for name, leaf in PARAMS.items()}
    vector = {name: normal(7, *leaf.shape) for name, leaf in PARAMS.items()}
    norms, trace, product, spectrum = formulas(PARAMS, MASK, U, vector)
    for power, norm in enumerate(norms, 1):
        found, start = network_that_is_left(masked, np.asarray(U), power)
        close(norm, np.sum(abs(found.values) ** power * start))
    jacobian = np.sqrt(start)[:, None] * found.jacobian
    gram = jacobian.T @ jacobian
    close(trace, np.trace(gram))
    close(stacked(product), gram @ stacked(vector))
    close(spectrum, np.linalg.eigvalsh(gram)[::-1][:2])


def test_the_trace_is_the_derivative_of_the_network_of_squares():
    """As in the second paper's code: square all parameters, put in ones, differentiate, and sum all derivatives."""

    def conv(params, x):
        hidden = nn.Conv(2, (3, 3)).apply({"params": params["conv"]}, x)
        return nn.max_pool(nn.relu(hidden), (2, 2), (2, 2)).reshape(len(x), -1) @ params["v"] + params["c"]

    params = {"conv": {"kernel": normal(1, 3, 3, 1, 2), "bias": normal(2, 2)}, "v": normal(3, 8, 3), "c": normal(4, 3)}

    @jax.jit
    def both(params):
        squares = jax.tree.map(jnp.square, params)
        slopes = jax.grad(lambda squares: jnp.sum(conv(squares, jnp.ones((1, 4, 4, 1)))))(squares)
        return sum(jnp.sum(slope) for slope in jax.tree.leaves(slopes)), paths.trace(conv, params, (4, 4, 1), **ALLOWED)

    close(*both(params))
    # A bias of zero counts, as any weight does.
    close(*both(params | {"c": jnp.zeros(3), "conv": {"kernel": params["conv"]["kernel"], "bias": jnp.zeros(2)}}))


def test_without_either_nothing_changes():
    params = [normal(1, 3, 4), normal(2, 4, 2)]

    def apply(p, x):
        return nn.relu(x @ p[0]) @ p[1]

    assert paths.trace(apply, params, (3,), **ALLOWED) == paths.trace(apply, params, (3,))


def test_what_stays_refused():
    """The default, means that are not zero, and a maximum of what are no sums over paths."""
    for function in (paths.trace, paths.spectrum, functools.partial(paths.path_norm, power=1)):
        with pytest.raises(ValueError, match="apply adds a bias or a shift"):
            function(pooled, PARAMS, (INPUTS,))
    with pytest.raises(ValueError, match="apply subtracts a shift"):
        paths.trace(lambda w, x: x @ w - jnp.ones(2), normal(1, 3, 2), (3,), **ALLOWED)
    with pytest.raises(ValueError, match="apply uses tanh"):
        paths.trace(lambda w, x: jnp.tanh(x @ w), normal(1, 3, 2), (3,), **ALLOWED)
