"""What a sweep prunes, trains and tests: a network by name, data, and the settings of training."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from sketchprune import _checks, models
from sketchprune._boundary import checked
from sketchprune.data import Dataset
from sketchprune.types import ApplyFn, Batch, Inputs, Key, Params

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "mlp": functools.partial(models.mlp, 100, 100),
    "lenet": models.lenet,
    "vgg11": functools.partial(models.vgg11, norm=True),
    "vgg16": functools.partial(models.vgg16, norm=True),
    "resnet20": models.resnet20,
}
"""Name -> constructor of a network, which takes the number of classes. The last three have batch normalisation."""
MOMENTUM = 0.9
AVERAGED_SAMPLES = 512
"""Training samples over which batch normalisation takes its averages when a trained network is tested."""


def correct(outputs: Float[Array, "n k"], labels: Int[Array, "n"]) -> Bool[Array, "n"]:
    """Which samples are classified right; with an output that is NaN or infinite, as of a diverged network, none is.

    Args:
        outputs: [n, k], one for each class.
        labels: [n], from 0 to k − 1.

    Returns:
        A boolean for each sample.

    Example:
        >>> correct(jnp.array([[0.0, 1.0], [0.0, jnp.nan]]), jnp.array([1, 1])).tolist()
        [True, False]
    """
    return (jnp.argmax(outputs, axis=1) == labels) & jnp.isfinite(outputs).all(axis=1)


@dataclass(frozen=True)
class Training:
    """How each network of a sweep is trained: stochastic gradient descent with momentum 0.9.

    The step size falls from ``learning_rate`` to 0 along half a cosine, lr·(1 + cos(πt/steps))/2.

    Attributes:
        steps: How many steps are taken.
        learning_rate: The first step size.
        batch_size: How many samples a step sees; all of them where there are fewer.
    """

    steps: int = 1000
    learning_rate: float = 0.1
    batch_size: int = 128

    def __post_init__(self):
        _checks.whole("steps", self.steps, least=0)
        _checks.whole("batch_size", self.batch_size, least=1)
        _checks.positive("learning_rate", self.learning_rate)

    def optimizer(self) -> optax.GradientTransformation:
        """A new optimiser; programs are compiled for each, so make it once."""
        return optax.sgd(optax.cosine_decay_schedule(self.learning_rate, max(self.steps, 1)), momentum=MOMENTUM)


@dataclass(frozen=True, eq=False)
class Problem:
    """A network and its data, in float32.

    Attributes:
        network: What the table calls it.
        model: The network.
        apply: ``apply(params, x)``, as scores and laws see it. Batch normalisation has mean 0 and variance 1, so that
            it is a scale for each channel, which flows along paths need.
        trained: The same function as it trains fastest: on a CPU with convolutions as products with patches. Batch
            normalisation has the averages of each batch.
        train: The training samples and their labels.
        test: The samples to test on, and their labels.
        training: The settings of training.
        optimizer: That of the settings.
    """

    network: str
    model: nn.Module
    apply: ApplyFn
    trained: ApplyFn
    train: Batch
    test: Batch
    training: Training
    optimizer: optax.GradientTransformation

    @property
    def batch_size(self) -> int:
        """How many samples a step sees."""
        return min(self.training.batch_size, len(self.train[0]))

    def params(self, key: Key) -> Params:
        """Initial weights.

        Args:
            key: Their key.
        """
        return models.initial(self.model, key, self.train[0][:1])[1]

    def outputs(self, params: Params, x: Inputs, reference: Inputs) -> Float[Array, "n k"]:
        """The outputs of a trained network.

        Args:
            params: Its weights.
            x: Samples.
            reference: Training samples, over which batch normalisation takes its averages.
        """
        if _has_norm(self.model):
            return models.with_averages(self.model, params, reference)(params, x)
        return self.apply(params, x)


@checked
def problem(network: str | nn.Module, train: Dataset, test: Dataset, training: Training | None = None) -> Problem:
    """The problem of training a network on one data set and testing it on another.

    Features are centred and scaled by the mean and the standard deviation of the training set: of each channel of
    images, of each feature of other data.

    Args:
        network: A name of ``NETWORKS``, or a module of :mod:`sketchprune.models` with as many outputs as there are
            classes.
        train: The training set.
        test: What is tested on; no sample of it should be in ``train``.
        training: The settings of training.

    Returns:
        The problem.

    Raises:
        ValueError: An unknown name, data that are no images for a network that takes them, or sets that differ in
            classes or in the shape of samples.

    Example:
        >>> from sketchprune import data
        >>> posed = problem("mlp", data.load("digits", "train"), data.load("digits", "test"))
        >>> posed.train[0].shape, posed.test[0].dtype
        ((1438, 8, 8, 1), dtype('float32'))
    """
    training = Training() if training is None else training
    if isinstance(network, str):
        if network not in NETWORKS:
            raise ValueError(f"network is {network!r}; it takes {' or '.join(NETWORKS)}")
        name, model = network, NETWORKS[network](train.num_classes)
    else:
        name, model = type(network).__name__.lower(), network
    kinds = [(each.x.shape[1:], each.image_shape, each.num_classes) for each in (train, test)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"test has samples, images and classes {kinds[1]}; it takes those of train, {kinds[0]}")
    if not train.image_shape and not isinstance(model, models.Mlp):
        raise ValueError(f"network is {name}, and {train.name} holds plain features; it takes mlp, or data of images")
    batches = _scaled(train, test)
    apply, trained = (
        models.initial(each, jax.random.key(0), batches[0][0][:1])[0] for each in (model, _fastest(model))
    )
    if _has_norm(model):
        trained = models.in_training_mode(model)
    return Problem(name, model, apply, trained, *batches, training, training.optimizer())


def _has_norm(model: nn.Module) -> bool:
    """Whether a network has batch normalisation."""
    return getattr(model, "norm", False)


def _fastest(model: nn.Module) -> nn.Module:
    """The same network in the form that trains fastest: a CPU is slow at convolutions with many kernels at once."""
    if isinstance(model, models.LeNet) and jax.default_backend() == "cpu":
        return model.clone(patches=True)
    return model


def _scaled(train: Dataset, test: Dataset) -> tuple[Batch, Batch]:
    """The samples of both sets in float32, centred and scaled as the training set says, and their labels."""
    x, x_test = (np.asarray(each.images if each.image_shape else each.x) for each in (train, test))
    over: Any = tuple(range(x.ndim - 1)) if train.image_shape else 0
    mean, deviation = (each.astype(x.dtype) for each in (x.mean(over, np.float64), x.std(over, np.float64)))
    # Of a constant feature the deviation need not come out as zero, but as rounding error.
    scale = np.where(x.max(over) > x.min(over), deviation, 1).astype(x.dtype)
    parts = ((part, each.y) for part, each in ((x, train), (x_test, test)))
    scaled = [((part - mean) / scale, y) for part, y in parts]  # in their own dtype: they may differ in late digits
    first, second = ((jnp.asarray(part, jnp.float32), jnp.asarray(y, jnp.int32)) for part, y in scaled)
    return first, second
