"""Models: the parameter counts of the originals, two parameterisations of one function, samples apart."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sketchprune import models, train
from sketchprune.models import patches

SMALL = {
    "linear": models.linear(3),
    "mlp": models.mlp(8, 8, 3),
    "lenet": models.lenet(3),
    "vgg": models.Vgg(stages=((4,), (6, 6)), outputs=3),
    "vgg, norm": models.Vgg(stages=((4,), (6, 6)), outputs=3, norm=True),
    "patch_net": models.patch_net(4, 6, 3),
}
DEPTH = {"linear": 1, "mlp": 3, "lenet": 5, "vgg": 4, "patch_net": 3}


@functools.cache
def network(name, **options):
    """The model with those options, its apply function, jitted, and random parameters."""
    model = SMALL[name].clone(**options)
    apply, params = models.initial(model, jax.random.key(1), images(8))
    return jax.jit(apply), params


def images(side, samples=4, channels=1, seed=0):
    return jax.random.normal(jax.random.key(seed), (samples, side, side, channels))


def parameters(model, side, channels):
    return jax.eval_shape(model.init, jax.random.key(0), images(side, 1, channels))["params"]


def convolution_weights(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 4)


@pytest.mark.parametrize(
    ("model", "side", "channels", "expected"),
    [
        (models.linear(), 28, 1, 7850),
        (models.mlp(512, 512, 10), 28, 1, 784 * 512 + 512 * 512 + 512 * 10 + 512 + 512 + 10),
        (models.mlp(128, 128, 10, bias=False), 8, 1, 25856),
        (models.lenet(), 28, 1, 61706),
        (models.lenet(), 32, 3, 62006),
        (models.vgg16(), 32, 3, 14714688 + 512 * 10 + 10),
        (models.vgg16(bias=False), 8, 1, 14710464 - 2 * 9 * 64 + 512 * 10),
        (models.vgg11(bias=False, ntk=True), 32, 3, 9217728 + 512 * 10),
        (models.resnet20(), 32, 3, 269722),
        (models.resnet20(bias=False), 32, 3, 269722 - (7 * 16 + 6 * 32 + 6 * 64) - 10),
        (models.resnet20(bias=False, norm=False, width=32), 32, 3, 1069920 + 128 * 10),
        (models.resnet20(norm=False), 28, 1, 268346 - 2 * 9 * 16 + 7 * 16 + 6 * 32 + 6 * 64),
    ],
)
def test_parameters_of_the_originals(model, side, channels, expected):
    params = parameters(model, side, channels)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
    if isinstance(model, models.Vgg) and side == 32:
        assert convolution_weights(params) == {8: 9217728, 13: 14710464}[sum(map(len, model.stages))]


@pytest.mark.parametrize("side", [8, 28, 32])
@pytest.mark.parametrize(
    "model",
    [models.lenet(7), models.vgg11(7), models.vgg16(7, norm=True), models.resnet20(7), models.patch_net(4, 7)],
    ids=lambda model: type(model).__name__,
)
def test_images_of_every_size_fit(model, side):
    outputs, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images(side, 2))
    assert outputs.shape == (2, 7)
    assert all(leaf.size for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("name", ["mlp", "lenet", "vgg, norm", "patch_net"])
def test_samples_are_independent(name):
    x = images(8)
    apply, params = network(name)
    if name == "vgg, norm":
        apply = models.with_averages(SMALL[name], params, x)
    together, alone = jax.jit(lambda x: (apply(params, x), jax.vmap(lambda sample: apply(params, sample[None]))(x)))(x)
    np.testing.assert_allclose(together, alone[:, 0], rtol=1e-9, atol=1e-12)
    assert together.dtype == x.dtype == jax.tree.leaves(params)[0].dtype


@pytest.mark.parametrize("name", ["mlp", "lenet", "patch_net"])
def test_ntk_parameterisation_is_the_same_function(name):
    """Standard normal weights times √(gain/fan-in) are the weights of the standard parameterisation."""
    x = images(8)
    apply, params = network(name)
    ntk_apply, _ = network(name, ntk=True)
    output = max(layer for layer in params if layer.startswith("Dense"))

    def rescaled(path, leaf):
        if leaf.ndim == 1:
            return leaf  # a bias has scale one in both
        gain = 1 if path[0].key == output else 2
        return leaf / (gain / np.prod(leaf.shape[:-1])) ** 0.5

    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    wide = jax.tree_util.tree_map_with_path(rescaled, params)
    np.testing.assert_allclose(ntk_apply(wide, x), apply(params, x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("ntk", [False, True])
def test_weights_have_the_variance_of_their_parameterisation(ntk):
    x = images(8)
    _, params = models.initial(models.mlp(200, 300, 10, ntk=ntk), jax.random.key(0), x)
    for layer, gain in zip(("Dense_0", "Dense_1", "Dense_2"), (2, 2, 1), strict=True):
        kernel = params[layer]["kernel"]
        variance = 1 if ntk else gain / kernel.shape[0]
        assert abs(jnp.var(kernel) / variance - 1) < 5 * (2 / kernel.size) ** 0.5  # five standard deviations
        assert (params[layer]["bias"] == 0).all()


@pytest.mark.parametrize("name", ["linear", "mlp", "vgg", "patch_net"])
def test_networks_without_biases_are_homogeneous(name):
    x = images(8)
    apply, params = network(name, bias=False)
    doubled = apply(jax.tree.map(lambda leaf: 2 * leaf, params), x)
    np.testing.assert_allclose(doubled, 2 ** DEPTH[name] * apply(params, x), rtol=1e-12)


@pytest.mark.parametrize(("size", "image"), [((3, 3), (4, 5)), ((5, 3), (1, 2)), ((1, 1), (3, 2))])
def test_patch_convolution_is_the_convolution(size, image):
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, *image, 3)), rng.standard_normal((*size, 3, 4))
    expected = nn.Conv(4, size, use_bias=False).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(models.patch_convolution(x, kernel), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("option", [{"strides": (2, 2)}, {"kernel_dilation": 2}, {"feature_group_count": 2}])
def test_a_flax_layer_of_patches_refuses_what_patches_have_not(option):
    layer = nn.Conv(2, (3, 3), conv_general_dilated=patches.convolve_patches, **option)
    with pytest.raises(ValueError, match="it takes ones: patches have no strides, dilations or groups"):
        layer.init(jax.random.key(0), images(4, channels=2))


def test_patch_convolution_without_padding_takes_even_sizes():
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 5, 4, 3)), rng.standard_normal((2, 4, 3, 4))
    expected = nn.Conv(4, (2, 4), padding="VALID", use_bias=False).apply({"params": {"kernel": kernel}}, x)
    found = models.patch_convolution(x, kernel, padding="VALID")
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("side", "pooling"), [(8, "average"), (29, "max"), (32, "average")])
def test_lenet_by_patches_is_lenet(side, pooling):
    """Outputs and gradients, with both convolutions padded, the first one, or none."""
    x = images(side, samples=2)
    (apply, params), (patched, same) = (
        models.initial(models.lenet(3, pooling=pooling, patches=by_patches), jax.random.key(1), x)
        for by_patches in (False, True)
    )
    jax.tree.map(np.testing.assert_array_equal, params, same)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(patched)(params, x))
    results = [
        jax.jit(jax.value_and_grad(lambda params, run=run: jnp.sum(jnp.sin(run(params, x)))))(params)
        for run in (apply, patched)
    ]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), *results)


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("side", [4, 5])
def test_pooling_by_reshape_is_pooling(side, pooling):
    x = images(side, samples=2, channels=3)
    expected = {"average": nn.avg_pool, "max": nn.max_pool}[pooling](x, (2, 2), (2, 2))
    np.testing.assert_allclose(patches.pool_patches(x, pooling), expected, rtol=1e-12)


@pytest.mark.parametrize("side", [8, 7])
def test_patch_net_is_the_convolutional_net(side):
    x = images(side)
    model = SMALL["patch_net"]
    apply, params = models.initial(model, jax.random.key(1), x)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    hidden = x
    for layer in range(2):
        weights = {"kernel": params[f"kernel_{layer}"], "bias": params[f"bias_{layer}"]}
        hidden = nn.relu(nn.Conv(len(weights["bias"]), (3, 3)).apply({"params": weights}, hidden))
        hidden = nn.avg_pool(hidden, (2, 2), (2, 2))
    dense = params["Dense_0"]
    expected = hidden.reshape(len(x), -1) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(jax.jit(apply)(params, x), expected, rtol=1e-9)


class Layers:
    """Convolutions and dense layers in numpy, in the order of their numbers; normalised by these very samples."""

    def __init__(self, params):
        self.params = jax.tree.map(np.asarray, params)
        self.used = 0

    def conv(self, x, stride=1):
        number, self.used = self.used, self.used + 1
        layer = self.params[f"Conv_{number}"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
        out = np.einsum("nhwcab,abck->nhwk", windows, layer["kernel"], optimize=True) + layer.get("bias", 0)
        if norm := self.params.get(f"BatchNorm_{number}"):
            out = (out - out.mean((0, 1, 2))) / np.sqrt(out.var((0, 1, 2)) + 1e-5) * norm["scale"] + norm["bias"]
        return out

    def end(self, x):
        dense = self.params["Dense_0"]
        return x.mean((1, 2)) @ dense["kernel"] + dense["bias"]


def vgg_by_hand(model, params, x):
    layers, pool = Layers(params), {"max": np.max, "average": np.mean}[model.pooling]
    for widths in model.stages:
        for _ in widths:
            x = np.maximum(layers.conv(x), 0)
        samples, height, width, channels = x.shape
        if height > 1:
            x = pool(x.reshape(samples, height // 2, 2, width // 2, 2, channels), axis=(2, 4))
    return layers.end(x)


def resnet_by_hand(model, params, x):
    layers = Layers(params)
    x = np.maximum(layers.conv(x), 0)
    for block in range(9):
        halved = block in (3, 6)
        branch = layers.conv(np.maximum(layers.conv(x, 2 if halved else 1), 0))
        shortcut = np.zeros_like(branch)
        shortcut[..., : x.shape[-1]] = x[:, ::2, ::2] if halved else x
        x = np.maximum(branch + shortcut, 0)
    return layers.end(x)


@pytest.mark.parametrize(
    ("model", "by_hand"),
    [
        (models.Vgg(stages=((3, 4), (5,), (6,), (4,), (3,)), outputs=2), vgg_by_hand),
        (models.Vgg(stages=((3, 4), (5,)), outputs=2, pooling="average", norm=True), vgg_by_hand),
        (models.resnet20(2, width=5), resnet_by_hand),
    ],
    ids=["vgg", "vgg, norm", "resnet20"],
)
def test_deep_networks_are_those_written_in_numpy(model, by_hand):
    """Parameters at random, biases, scales and shifts too; normalised by the averages of the samples."""
    x, rng = images(8, samples=3, channels=2), np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape), parameters(model, 8, 2))
    measured = {"measure": True, "mutable": ["batch_stats"]} if model.norm else {}
    found = jax.jit(functools.partial(model.apply, **measured))({"params": params}, x)
    expected = by_hand(model, params, np.asarray(x))
    np.testing.assert_allclose(found[0] if model.norm else found, expected, rtol=1e-9)


def test_branches_of_resnet_are_centred_on_their_shortcuts():
    """Filters that are not zero at their centre alone move a pixel to where the shortcut takes it."""
    model = models.resnet20(2, norm=False, bias=False)
    x = np.zeros((1, 16, 16, 1), np.float32)
    x[0, 4, 8, 0] = 1
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), parameters(model, 16, 1))
    for name, layer in params.items():
        if name.startswith("Conv"):
            layer["kernel"][1, 1, 0, 0] = 1
    _, found = model.apply({"params": params}, x, capture_intermediates=True, mutable=["intermediates"])
    for convolution, at in (("Conv_7", [2, 4]), ("Conv_13", [1, 2])):  # x[::2, ::2], once and twice
        (image,) = found["intermediates"][convolution]["__call__"]
        assert np.argwhere(image[0, :, :, 0]).tolist() == [at]


def test_averages_of_data_are_those_of_training_mode():
    x = images(8, samples=16)
    model = SMALL["vgg, norm"]
    _, params = network("vgg, norm")
    expected, _ = jax.jit(lambda: model.apply({"params": params}, x, measure=True, mutable=["batch_stats"]))()
    found = jax.jit(models.with_averages(model, params, x))(params, x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_training_mode_is_trained_and_evaluated():
    """Each step normalises by its batch: the first loss is that with the averages of the data, as is the evaluation."""
    x, labels = images(4, samples=8), jnp.arange(8) % 3
    model = models.Vgg(stages=((3,),), outputs=3, norm=True)
    apply = models.in_training_mode(model)
    assert apply is models.in_training_mode(models.Vgg(stages=((3,),), outputs=3, norm=True))
    _, params = models.initial(model, jax.random.key(0), x)
    trained, losses = train.fit(apply, train.cross_entropy, params, (x, labels), optax.sgd(0.2), 30)
    first = train.cross_entropy(models.with_averages(model, params, x)(params, x), labels)
    np.testing.assert_allclose(losses[0], first, rtol=1e-9)
    last = train.cross_entropy(models.with_averages(model, trained, x)(trained, x), labels)
    assert last < losses[-1] < 0.9 * losses[0]
    assert abs(apply(params, x)[:4] - apply(params, x[:4])).max() > 1e-3


def test_initial_averages_only_scale():
    x = images(8)
    apply, params = network("vgg, norm", bias=False)
    np.testing.assert_allclose(apply(params, 2 * x), 2 * apply(params, x), rtol=1e-9)


def test_initial_averages_have_the_dtype_of_the_parameters():
    """Normalisation by variance 1 divides by √(1 + 1e-5), to the rounding of float64."""
    x = jnp.asarray(images(4), jnp.float64)
    normed, plain = (models.Vgg(stages=((2,),), outputs=3, bias=False, norm=norm) for norm in (True, False))
    apply, params = models.initial(normed, jax.random.key(0), x)
    without, kernels = models.initial(plain, jax.random.key(0), x)
    kernels = {name: params[name] for name in kernels}
    np.testing.assert_allclose(apply(params, x), without(kernels, x) / (1 + 1e-5) ** 0.5, rtol=1e-13)


def test_equal_models_share_their_apply():
    x = images(8)
    one, _ = models.initial(models.mlp(4, 3), jax.random.key(0), x)
    other, _ = models.initial(models.mlp(4, 3), jax.random.key(1), x)
    assert one is other


def test_equal_models_share_their_programs():
    """Initial weights and averages of a model made anew: nothing is traced again."""
    calls = []

    class Counted(models.Vgg):
        def __call__(self, x, *, measure=False):
            calls.append(x)
            return super().__call__(x, measure=measure)

    for seed in range(3):
        model, x = Counted(stages=((2,),), outputs=1, norm=True), images(4)
        _, params = models.initial(model, jax.random.key(seed), x)
        models.with_averages(model, params, x)
        if not seed:
            first = len(calls)
    assert len(calls) == first


def test_misuse_is_named():
    with pytest.raises(ValueError, match="widths is"):
        models.mlp()
    with pytest.raises(ValueError, match="widths is"):
        models.patch_net(10)
    with pytest.raises(ValueError, match="x has dtype uint8; it takes floating numbers"):
        models.initial(models.mlp(4, 3), jax.random.key(0), jnp.ones((5, 2), jnp.uint8))
    for size in ((2, 3), (3, 2)):
        with pytest.raises(ValueError, match="kernel has {} rows and {} columns; it takes odd".format(*size)):
            models.patch_convolution(images(4), jnp.ones((*size, 1, 1)))
    with pytest.raises(ValueError, match="model is a Mlp without batch normalisation"):
        models.with_averages(models.mlp(3), {"kernel": jnp.ones((1, 3))}, images(8))
    with pytest.raises(ValueError, match="model is a Mlp without batch normalisation"):
        models.in_training_mode(models.mlp(3))
