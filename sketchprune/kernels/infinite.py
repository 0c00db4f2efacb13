"""Infinite-width NTK and NNGP of MLPs and CNNs through neural-tangents, on current JAX.

Kernels are those of the NTK parameterisation: every weight and bias is standard normal at the start, and a
layer is h_{l+1} = (σ_w/√n_l) W φ(h_l) + σ_b β; the first reads the input, h_1 = (σ_w/√n_0) W x + σ_b β. For a
convolution n_l is the filter's size times the channels it reads. All hidden widths go to infinity.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Literal, NamedTuple

import jax
import jax.core
import jax.extend
import jax.interpreters.ad
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from sketchprune import _checks
from sketchprune.kernels.linearised import flow

NEURAL_TANGENTS = "0.6.5"
"""The version of neural-tangents this module lends names to."""

KernelFn = Callable[..., Any]
"""``kernel_fn(x1, x2, get=...)`` as neural-tangents has it: what `mlp` and `cnn` return."""
Activation = Literal["relu", "erf", "gelu", "linear"]
_LAYERS = {"relu": "Relu", "erf": "Erf", "gelu": "Gelu", "linear": "Identity"}


def _safe_map(f: Any, *lists: Any) -> list[Any]:
    return [f(*items) for items in zip(*lists, strict=True)]


def _safe_zip(*lists: Any) -> list[Any]:
    return list(zip(*lists, strict=True))


@contextlib.contextmanager
def _lent_names() -> Iterator[None]:
    """While open, JAX has the names that neural-tangents 0.6.5 reads at import and JAX has since moved."""
    moved = ("Jaxpr", "JaxprEqn", "ClosedJaxpr", "Literal", "Primitive", "Var")
    util = types.ModuleType("jax.util")
    vars(util).update(safe_map=_safe_map, safe_zip=_safe_zip)
    loans: list[tuple[dict[str, Any], str, Any]] = [
        *((jax.core.__dict__, name, getattr(jax.extend.core, name)) for name in moved),
        (jax.interpreters.ad.__dict__, "zeros_like_p", jax.extend.core.Primitive("zeros_like")),
        (jax.__dict__, "util", util),
        (sys.modules, "jax.util", util),
        # The experimental part translates TensorFlow models and is all that TensorFlow is needed for.
        (
            sys.modules,
            "neural_tangents.experimental",
            types.ModuleType("neural_tangents.experimental"),
        ),
    ]
    lent = [(namespace, name, value) for namespace, name, value in loans if name not in namespace]
    for namespace, name, value in lent:
        namespace[name] = value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for namespace, name, _ in lent:
            del namespace[name]


@functools.cache
def neural_tangents() -> ModuleType:
    """The neural-tangents package, imported on current JAX.

    neural-tangents 0.6.5 reads names that JAX has moved since. They are lent to it while it is imported and
    taken back afterwards, whether or not the import went well: nothing of JAX stays changed, and
    ``sys.modules`` gains only neural-tangents and what it imports. Its ``experimental`` part (TensorFlow
    models) is not there. Of its empirical kernels the implementations JACOBIAN_CONTRACTION and
    NTK_VECTOR_PRODUCTS work (the latter with a DeprecationWarning); STRUCTURED_DERIVATIVES and AUTO reach for
    internals of JAX that no longer exist.

    Raises ImportError when the extra ``infinite`` is not installed, and when the version installed does not
    import.

    Cost: one import, 0.5 s; the module is kept.

    >>> neural_tangents().__version__
    '0.6.5'
    """
    try:
        version = importlib.metadata.version("neural-tangents")
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError(
            "sketchprune.kernels.infinite needs neural-tangents, which is not installed: "
            "`uv add 'sketchprune[infinite]'` or `pip install 'sketchprune[infinite]'`"
        ) from error
    before = set(sys.modules)
    try:
        with _lent_names():
            module = importlib.import_module("neural_tangents")
    except (ImportError, AttributeError) as error:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "neural_tangents":
                del sys.modules[name]
        raise ImportError(
            f"neural-tangents {version} does not import on jax {jax.__version__}: {error}. "
            f"sketchprune.kernels.infinite is written for neural-tangents {NEURAL_TANGENTS} on jax 0.10"
        ) from error
    vars(module).pop("experimental", None)
    return module


def mlp(depth: int, *, activation: Activation = "relu", weight_std: float = 2**0.5, bias_std: float = 0.0) -> KernelFn:
    """The infinitely wide MLP with ``depth`` layers of weights, for `ntk`, `nngp` and `predict`.

    depth = 1 is the linear model σ_w/√d w·x + σ_b β; depth = L has L − 1 hidden layers and L − 1 activations.
    Inputs of more axes than [n, d] are flattened.

    ``weight_std`` is σ_w and ``bias_std`` σ_b, the same in every layer; σ_b = 0 is a network without biases,
    not one with biases at zero (those are trained: they would add to the NTK). ``activation`` is
    `jax.nn.relu`, `jax.scipy.special.erf`, `jax.nn.gelu` with approximate=False, or none. Raises ValueError
    for anything else.

    Source: jacot2018ntk; tangent/infinite-width.

    >>> ntk(mlp(1, weight_std=1.0), jnp.array([[1.0, 3.0], [2.0, 0.0]])).tolist()  # x·x'/d
    [[5.0, 1.0], [1.0, 2.0]]
    """
    _checks.whole("depth", depth, least=1)
    return _network(0, depth, 1, 1, "flatten", *_laws(activation, weight_std, bias_std))


def cnn(
    depth: int,
    *,
    filter_size: int = 3,
    pool: int = 1,
    head: Literal["flatten", "mean"] = "flatten",
    activation: Activation = "relu",
    weight_std: float = 2**0.5,
    bias_std: float = 0.0,
) -> KernelFn:
    """The CNN with infinitely many channels and ``depth`` convolutions, for `ntk`, `nngp` and `predict`.

    A convolution is square, of stride 1, zero-padded to the size of its input ("SAME"); after each comes the
    activation and the average over ``pool`` x ``pool`` tiles (1: none; what does not fill a tile is dropped).
    The ``head`` flattens the image or takes its mean, and one dense layer reads it. Images are [n, height,
    width, channels]. The rest is as in `mlp`. Any other network of neural-tangents can take the place of this
    one: ``ntk(neural_tangents().stax.serial(...)[2], x)``.

    Raises ValueError for sizes that are not whole and positive, another head, and what `mlp` refuses; the kernel
    raises it for images that the pooling leaves no tile of.

    Cost: with pooling or the mean, the covariances of all pairs of pixels: n² (height · width)² numbers at
    the first layer; without, n² height · width. ``neural_tangents().batch`` computes a kernel in blocks of
    samples.

    Source: jacot2018ntk; tangent/infinite-width.

    >>> image = jnp.ones((1, 2, 2, 1))
    >>> ntk(cnn(1, filter_size=1, activation="linear", weight_std=1.0), image).tolist()  # one for each layer
    [[2.0]]
    """
    _checks.whole("depth", depth, least=1)
    _checks.whole("filter_size", filter_size, least=1)
    _checks.whole("pool", pool, least=1)
    if head not in ("flatten", "mean"):
        raise ValueError(f"head is {head!r}; it takes 'flatten' or 'mean'")
    return _network(depth, 1, filter_size, pool, head, *_laws(activation, weight_std, bias_std))


def ntk(
    network: KernelFn | Sequence[int], x1: Float[Array, "n *d"], x2: Float[Array, "m *d"] | None = None
) -> Float[Array, "n m"]:
    """The neural tangent kernel of the infinitely wide network, the same for each of its outputs.

    Θ_∞(x, x') = lim Σ_i ∂_i f(x) ∂_i f(x') over all raw (standard normal) parameters. Over several outputs it
    is Θ_∞ ⊗ I: the empirical [n, m, k, k] tends to Θ_∞ on its diagonal and to 0 elsewhere, its trace to
    k Θ_∞.

    ``network`` is what `mlp` or `cnn` return, or any kernel function of neural-tangents. A sequence of
    widths, hidden ones then the outputs, is ``mlp(len(widths))``: only their number matters. The result has
    the dtype of the inputs. ReLU kernels of parallel inputs (the diagonal) carry a relative error near √ε
    through an arc cosine, 10⁻⁹ in float64 and 10⁻⁴ in float32.

    NaN in an input gives NaN in its row. Raises ValueError for no samples, inputs that are not floating, that
    differ in shape beyond the first axis, or are not of the network's rank; ImportError without the extra.

    Cost: n m d and n m for each layer of an MLP; `cnn` says its own.

    Source: jacot2018ntk; tangent/infinite-width, tangent/random-pruning-limit.

    >>> round(ntk([512, 512, 1], jnp.array([[1.0, 1.0]])).item(), 3)  # 2 ‖x‖²/d for each layer
    6.0
    """
    return _kernels(network, x1=x1, x2=x2).ntk


def nngp(
    network: KernelFn | Sequence[int], x1: Float[Array, "n *d"], x2: Float[Array, "m *d"] | None = None
) -> Float[Array, "n m"]:
    """The covariance of each output of the infinitely wide network at the start, a Gaussian process.

    K(x, x') = lim E f(x) f(x'). Arguments, dtype, errors and cost are those of `ntk`.

    Source: lee2019wide; tangent/infinite-width.

    >>> round(nngp([512, 512, 1], jnp.array([[1.0, 1.0]])).item(), 3)  # σ_w² = 2 keeps 2 ‖x‖²/d under ReLU
    2.0
    """
    return _kernels(network, x1=x1, x2=x2).nngp


class Prediction(NamedTuple):
    """Outputs at the test points over random starts: the mean, and the covariance that each output has."""

    mean: Float[Array, "*t m k"] | Float[Array, "*t m"]
    covariance: Float[Array, "*t m m"]


def predict(
    network: KernelFn | Sequence[int],
    x_train: Float[Array, "n *d"],
    y_train: Float[Array, "n k"] | Float[Array, " n"],
    x_test: Float[Array, "m *d"],
    times: ArrayLike = jnp.inf,
) -> Prediction:
    """The law of the infinitely wide network's outputs after gradient flow on the sum loss ½‖f − y‖².

    With A = Θ_* Θ⁻¹(I − e^{−Θt}): mean A y, covariance K_** − A K_*ᵀ − K_* Aᵀ + A K Aᵀ, Θ the NTK and K the
    covariance at the start, Θ_* and K_* between test and training points. It is a Gaussian process, one
    independent copy for each output.

    Times, their units and the treatment of singular kernels are those of `linearised.flow` (neural-tangents'
    own predictions divide 0 by 0 there); infinity, the default, is training to the end. Inputs and errors are
    those of `ntk` and `linearised.flow`.

    Cost: the kernels; n³; (m n + m²) n a time.

    Source: lee2019wide.

    >>> line = mlp(1, weight_std=1.0)
    >>> predict(line, jnp.array([[1.0]]), jnp.array([2.0]), jnp.array([[3.0]])).mean.tolist()
    [6.0]
    """
    train = _kernels(network, x_train=x_train)
    cross = _kernels(network, x_test=x_test, x_train=x_train)
    test = _kernels(network, x_test=x_test)
    y_train, samples = jnp.asarray(y_train), len(train.ntk)
    if y_train.ndim not in (1, 2) or len(y_train) != samples:
        raise ValueError(f"y_train has shape {y_train.shape}; it takes [{samples}] or [{samples}, k]")
    unit, none = jnp.eye(samples, dtype=train.ntk.dtype), jnp.zeros_like(cross.ntk)
    operator = flow(train.ntk, 0 * unit, unit, times, cross=cross.ntk, cross_outputs=none)
    return _posterior(operator, y_train.astype(unit.dtype), train.nngp, cross.nngp, test.nngp)


@jax.jit
def _posterior(operator: Array, y: Array, train: Array, cross: Array, test: Array) -> Prediction:
    product = functools.partial(jnp.einsum, precision="highest")
    mixed = product("...mn,pn->...mp", operator, cross)
    learnt = product("...mn,nl,...pl->...mp", operator, train, operator)
    return Prediction(jnp.tensordot(operator, y, 1, precision="highest"), test - mixed - mixed.mT + learnt)


class _Kernels(NamedTuple):
    nngp: Array
    ntk: Array


def _kernels(network: KernelFn | Sequence[int], **named: Array | None) -> _Kernels:
    """Both kernels of one or two arrays of inputs, in the dtype of the inputs."""
    if not callable(network) and not _are_widths(network):
        raise ValueError(f"network is {network!r}; it takes a kernel function or a sequence of whole widths >= 1")
    inputs = {name: jnp.asarray(x) for name, x in named.items() if x is not None}
    for name, x in inputs.items():
        if x.ndim < 2 or x.size == 0:
            raise ValueError(f"{name} has shape {x.shape}; it takes samples and at least one more axis, none empty")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {x.dtype}; it takes floating numbers")
    shapes = [x.shape[1:] for x in inputs.values()]
    if shapes[0] != shapes[-1]:
        raise ValueError(f"{' and '.join(inputs)} have samples of shapes {shapes}; they take one shape")
    x1, x2 = (*inputs.values(), None)[:2]
    kernel_fn = network if callable(network) else mlp(len(network))
    kernels = kernel_fn(x1, x2, get=("nngp", "ntk"))
    dtype = jnp.result_type(*inputs.values())
    return _Kernels(kernels.nngp.astype(dtype), kernels.ntk.astype(dtype))


def _are_widths(network: Any) -> bool:
    # Bytes are a sequence of whole numbers, too.
    if not isinstance(network, Sequence) or isinstance(network, bytes | bytearray) or not network:
        return False
    return all(isinstance(width, int | np.integer) and width >= 1 for width in network)


@functools.cache
def _network(
    convolutions: int,
    dense: int,
    filter_size: int,
    pool: int,
    head: str,
    activation: str,
    weight_std: float,
    bias_std: float,
) -> KernelFn:
    """The compiled kernel function, one for equal descriptions, so that it is compiled once a shape."""
    stax = neural_tangents().stax
    law = {"W_std": weight_std, "b_std": bias_std or None}
    phi = getattr(stax, _LAYERS[activation])()
    layers = []
    for _ in range(convolutions):
        layers += [stax.Conv(1, (filter_size, filter_size), padding="SAME", **law), phi]
        if pool > 1:
            layers.append(stax.AvgPool((pool, pool), strides=(pool, pool)))
    layers.append(stax.GlobalAvgPool() if head == "mean" else stax.Flatten())
    for layer in range(dense):
        layers += [phi] * (layer > 0) + [stax.Dense(1, **law)]
    compiled = jax.jit(stax.serial(*layers)[2], static_argnames="get")

    def kernel_fn(x1: Array, x2: Array | None = None, get: str | tuple[str, ...] = "ntk") -> Any:
        if convolutions and x1.ndim != 4:
            raise ValueError(f"x1 has shape {x1.shape}; a cnn takes images [n, height, width, channels]")
        if convolutions and min(x1.shape[1:3]) < int(pool) ** int(convolutions):
            height, width = x1.shape[1:3]
            raise ValueError(
                f"pool is {pool}, {convolutions} times; it takes tiles that fit in the images, {height} x {width}"
            )
        return compiled(x1, x2, get=get)

    return kernel_fn


def _laws(activation: str, weight_std: float, bias_std: float) -> tuple[str, float, float]:
    if activation not in _LAYERS:
        raise ValueError(f"activation is {activation!r}; it takes one of {', '.join(_LAYERS)}")
    _checks.positive("weight_std", weight_std)
    if not 0 <= bias_std < float("inf"):
        raise ValueError(f"bias_std is {bias_std}; it takes a finite number >= 0")
    return activation, float(weight_std), float(bias_std)
