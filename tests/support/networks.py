"""Networks of every kind that a kernel has to be right for, and masks for them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.support import normal


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (7, 6):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(3)(x)


class LeNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(nn.relu(nn.Conv(3, (5, 5))(x)), (2, 2), (2, 2))
        x = nn.avg_pool(nn.relu(nn.Conv(4, (3, 3), padding="VALID")(x)), (2, 2), (2, 2))
        return nn.Dense(3)(nn.tanh(nn.Dense(6)(x.reshape(len(x), -1))))


class Vgg(nn.Module):
    """Convolutions one after another between pools, as in VGG-11 with fewer stages."""

    @nn.compact
    def __call__(self, x):
        for width in (2, "pool", 3, 3, "pool", 4, 4, "pool"):
            x = nn.max_pool(x, (2, 2), (2, 2)) if width == "pool" else nn.relu(nn.Conv(width, (3, 3))(x))
        return nn.Dense(2)(x.reshape(len(x), -1))


class ResNet(nn.Module):
    """Residual blocks with batch normalisation, as in ResNet-20 with fewer blocks."""

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(nn.BatchNorm, use_running_average=True)
        x = nn.relu(norm()(nn.Conv(2, (3, 3), use_bias=False)(x)))
        for width, stride in [(2, 1), (4, 2), (4, 1)]:
            branch = nn.relu(norm()(nn.Conv(width, (3, 3), strides=stride, use_bias=False)(x)))
            branch = norm()(nn.Conv(width, (3, 3), use_bias=False)(branch))
            x = x if stride == 1 else norm()(nn.Conv(width, (1, 1), strides=stride, use_bias=False)(x))
            x = nn.relu(x + branch)
        return nn.Dense(2)(x.mean(axis=(1, 2)))


class Unusual(nn.Module):
    """Strides, groups, dilation, overlapping pools, group norm, depthwise and pointwise convolutions."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 2), strides=(2, 1), padding=((1, 0), (0, 2)))(x)
        x = nn.max_pool(nn.relu(x), (2, 3), (1, 2), padding="SAME")
        x = nn.gelu(nn.GroupNorm(num_groups=2)(nn.Conv(6, (2, 2), feature_group_count=2, kernel_dilation=2)(x)))
        x = nn.Conv(6, (2, 2), feature_group_count=6, use_bias=False)(x)
        return nn.Conv(3, (1, 1))(x).mean(axis=(1, 2))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.Dense(4)(x)))
        return nn.Dense(2)(x.mean(axis=1))


def shared(params, x):
    """Weights used twice, in a scan, in a table, transposed, and scaled as in NTK parameterisation."""
    x = jnp.tanh(x @ params["twice"] + params["bias"])
    x, _ = lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, params["layers"])
    x = jnp.tanh(x @ params["twice"]) * params["table"][jnp.array([1, 0, 1, 2])]
    return x @ (params["ntk"] / jnp.sqrt(4.0)) @ params["out"].T + 0 * params["unused"].sum()


SHARED = {
    "twice": normal(0, 4, 4),
    "bias": normal(1, 4),
    "layers": normal(2, 3, 4, 4),
    "table": normal(3, 3),
    "ntk": normal(4, 4, 5),
    "out": normal(5, 2, 5),
    "unused": normal(6, 2),
    "steps": jnp.arange(3),
}


def network(module, x, seed=0):
    """``apply``, random parameters and samples; in NumPy, since compiling flax's initialisation takes longer."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x[:1])

    def draw(path, leaf):
        if leaf.ndim > 1:
            return rng.normal(size=leaf.shape) / np.prod(leaf.shape[:-1]) ** 0.5
        return (path[-1].key in ("scale", "var")) + 0.1 * rng.normal(size=leaf.shape)

    variables = jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.asarray(draw(path, leaf)), shapes)
    params = variables.pop("params")

    def apply(params, x):
        return module.apply({"params": params, **variables}, x)

    return apply, params, x


NETWORKS = {
    "mlp": lambda: network(Mlp(), normal(0, 5, 4)),
    "lenet": lambda: network(LeNet(), normal(0, 3, 12, 12, 1)),
    "vgg": lambda: network(Vgg(), normal(0, 3, 8, 8, 1)),
    "resnet": lambda: network(ResNet(), normal(0, 3, 8, 8, 2)),
    "unusual": lambda: network(Unusual(), normal(0, 3, 9, 8, 3)),
    "attention": lambda: network(Attention(), normal(0, 3, 5, 4)),
    "shared": lambda: (shared, SHARED, normal(0, 4, 4)),
    "linear": lambda: (lambda w, x: x @ w, normal(0, 4, 1), normal(1, 3, 4)),
}


@functools.cache
def instance(name):
    """One ``apply`` a network: what it was compiled to is kept."""
    return NETWORKS[name]()


def random_mask(params, seed=0, density=None):
    """Boolean of some density, or floating."""
    rng = np.random.default_rng(seed)

    def leaf(weight):
        draws = rng.random(jnp.shape(weight))
        return jnp.asarray(draws * 2 if density is None else draws < density)

    return jax.tree.map(leaf, params)


def matrix(kernel):
    """[N1, N2, K, K] as [N1 K, N2 K]."""
    n, m, k, _ = kernel.shape
    return kernel.transpose(0, 2, 1, 3).reshape(n * k, m * k)


def assert_same(actual, expected, tolerance=1e-12):
    scale = abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)
