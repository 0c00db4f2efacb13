"""Arguments of public functions: whatever is malformed is refused by the name of the argument."""

import functools
import inspect
import typing
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import AbstractArray, Array, Float, Int, PyTree, Shaped

import sketchprune
from sketchprune import data, kernels, laws, linalg, lottery, masks, models, paths, prune, search, sketch, train
from sketchprune._boundary import _argument, _options, checked
from sketchprune.types import ApplyFn, Count, Key, Mask, Matrix, Number, PerColumn
from tests.support import few, without_type_checks

X, W, Y = np.ones((3, 2)), np.ones(2), np.ones(3)
KEY = jax.random.key(0)


@checked
def example(
    x: Matrix,
    w: PerColumn,
    count: Count = 1,
    *,
    tau: Number = 1.0,
    key: Key | None = None,
    mask: Mask | None = None,
    apply: ApplyFn | None = None,
    labels: Int[Array, "n"] | None = None,
    layers: Sequence[Float[Array | np.ndarray, "_ _"]] = (),
    batch: Shaped[Array | np.ndarray, "n ..."] | None = None,
):
    return count


def test_what_fits_is_passed_on():
    assert example(X, W) == 1 and example(jnp.ones((3, 2)), w=jnp.ones(2), count=np.int64(3)) == 3
    assert example(X, W, key=KEY, mask={"a": W, "b": True}, apply=len, labels=np.arange(3), layers=[X, X], batch=Y) == 1
    assert example(X.astype(np.float32), W.astype(jnp.bfloat16), tau=jnp.ones(()), batch=np.ones((3, 4, 5))) == 1
    assert jax.jit(example)(X, W) == 1
    assert jax.vmap(example, in_axes=(None, 0))(X, np.ones((5, 2))).tolist() == [1] * 5
    assert example.__name__ == "example" and "layers" in inspect.signature(example).parameters


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((None, W), {}, r"x is None; it takes floating numbers \[n, d\]$"),
        (("text", W), {}, r"x is 'text'; it takes floating numbers \[n, d\]$"),
        ((float, W), {}, r"x is the class float; it takes"),
        (([[1.0]], W), {}, r"x is \[\[1.0\]\]; it takes floating numbers \[n, d\]$"),
        ((X[0], W), {}, r"x has shape \(2,\); it takes floating numbers \[n, d\]$"),
        ((X.astype(int), W), {}, r"x has dtype int64; it takes floating numbers \[n, d\]$"),
        ((X, np.ones(3)), {}, r"w has shape \(3,\); it takes floating numbers \[d\] with d = 2$"),
        ((X, W[:, None]), {}, r"w has shape \(2, 1\); it takes floating numbers \[d\] with d = 2$"),
        ((X, KEY), {}, "w is a key; it takes floating"),
        ((X, W, None), {}, "count is None; it takes a whole number$"),
        ((X, W), {"tau": "1"}, "tau is '1'; it takes a number$"),
        ((X, W), {"key": 3}, "key is 3; it takes a key of jax.random.key or None$"),
        ((X, W), {"key": np.zeros(2, np.uint32)}, "key is array.*; it takes a key of jax.random.key or None$"),
        ((X, W), {"mask": "text"}, "mask is 'text'; it takes a pytree of arrays or None$"),
        ((X, W), {"mask": {"a": object()}}, "mask is {'a': <object.*; it takes a pytree of arrays or None$"),
        ((X, W), {"mask": {}}, "mask is a pytree without arrays; it takes a pytree of arrays or None$"),
        ((X, W), {"apply": 3}, "apply is 3; it takes a function or None$"),
        ((X, W), {"labels": np.ones(3)}, r"labels has dtype float64; it takes whole numbers \[n\] with n = 3 or None$"),
        ((X, W), {"layers": X[0]}, None),
        ((X, W), {"layers": (X, Y)}, r"layers is \(array.*; it takes a sequence of floating numbers"),
        ((X, W), {"layers": "text"}, "layers is 'text'; it takes a sequence"),
        ((X, W), {"batch": np.ones(4)}, r"batch has shape \(4,\); it takes an array \[n, ...\] with n = 3 or None$"),
    ],
)
def test_what_does_not_fit_is_named(arguments, keywords, message):
    if message is None:
        assert example(*arguments, **keywords) == 1
        return
    with pytest.raises(ValueError, match=message):
        example(*arguments, **keywords)


def test_shapes_are_checked_under_a_trace():
    with pytest.raises(ValueError, match=r"w has shape \(3,\); it takes floating numbers \[d\] with d = 2"):
        jax.jit(example)(X, Y)
    with pytest.raises(ValueError, match=r"w has shape \(3,\)"):
        jax.vmap(example, in_axes=(None, 0))(X, np.ones((5, 3)))


# --- Every public function

PACKAGES = (
    sketch, laws, masks, linalg, search, search.subsets, search.mesh, paths, lottery, kernels, kernels.infinite,
    kernels.linearised, kernels.structure, train, prune, models, data,
)  # fmt: skip


def public_functions():
    """Functions and methods of the packages, by name."""
    for package in PACKAGES:
        for name, value in sorted(vars(package).items()):
            home = getattr(value, "__module__", None) or ""
            if name.startswith("_") or not f"{home}.".startswith(f"{package.__name__}."):
                continue
            if inspect.isclass(value) and not getattr(value, "_is_protocol", False):
                for method, function in sorted(vars(value).items()):
                    function = getattr(function, "__func__", function)
                    if not method.startswith("_") and inspect.isfunction(function):
                        yield f"{name}.{method}", function
            elif inspect.isfunction(value) or hasattr(value, "__wrapped__"):
                yield f"{package.__name__.removeprefix('sketchprune.')}.{name}", value


def is_checked(hint):
    """Whether an annotation is one of arrays, trees, keys, numbers or functions."""
    origins = [typing.get_origin(option) or option for option in _options(hint)]
    kinds = [origin for origin in origins if isinstance(origin, type)]
    return Callable in origins or any(
        issubclass(kind, AbstractArray | PyTree | np.ndarray | jax.Array | int | float | tuple) for kind in kinds
    )


def checked_arguments(function):
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters
    return {name: hints[name] for name in parameters if name in hints and is_checked(hints[name])}


FUNCTIONS = {name: function for name, function in public_functions() if checked_arguments(function)}
ARGUMENTS = [(name, argument) for name, function in FUNCTIONS.items() for argument in checked_arguments(function)]
MALFORMED = (None, "text", b"bytes", object(), [], {}, float, 1j, np.array(["a"]), np.array(None),
             np.zeros((2,) * 7, str), {"a": None}, ["text"], ("a", object()))  # fmt: skip
"""What no annotation of an array, a tree of arrays, a key or a function takes, except None where it is the default."""
NESTED = st.recursive(
    st.one_of(st.none(), st.text(max_size=3), st.binary(max_size=3), st.sampled_from(MALFORMED)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)


TWO = data.Dataset(np.eye(2), np.arange(2), "two samples", 2)
INSTANCES = ("text", models.linear(), search.mesh.over(jax.devices()[:1]), optax.sgd(0.1), TWO)


def like(hint):
    """A value that an annotation takes, as far as it is checked."""
    options = [option for option in _options(hint) if option is not type(None)]
    for option in options:
        origin = typing.get_origin(option) or option
        if origin is Callable:
            return lambda *_: jnp.zeros(())
        if isinstance(option, type) and issubclass(option, AbstractArray):
            if "key" in str(option.dtypes):
                return KEY
            axes = [axis for axis in option.dim_str.split() if not axis.startswith(("*", "..."))]
            shape = [int(axis) if axis.isdigit() else 2 for axis in axes]
            dtypes = option.dtypes if isinstance(option.dtypes, list | tuple) else ("float64",)
            kind = next(each for each in ("float64", "int64", "bool") if each in dtypes)
            return np.zeros(shape, kind)
        if isinstance(option, type) and issubclass(option, PyTree):
            return {"a": np.ones(2)}
        if origin is Sequence:
            return [like(*typing.get_args(option))] if typing.get_args(option) else [1]
        if hasattr(origin, "_fields"):
            fields = typing.get_type_hints(origin)
            return origin(*(like(fields[name]) for name in origin._fields))
        if origin in (int, float):
            return 1
        if origin is tuple:
            return tuple(map(like, typing.get_args(option)))
        if found := [each for each in INSTANCES if origin in type(each).__mro__]:
            return found[0]
    return np.ones(2)


def test_there_are_functions():
    assert len(FUNCTIONS) > 130 and len(ARGUMENTS) > 400
    assert {"sketch.magnitudes", "linalg.limit", "masks.keep_top", "Determinantal.sample"} <= set(FUNCTIONS)
    assert {"train.fit", "prune.one_shot", "kernels.infinite.predict", "models.initial"} <= set(FUNCTIONS)


MALFORMED_CALLS = 2000


def test_malformed_arguments_are_named():
    """Not by an error of JAX, and not by a result."""
    calls = 0

    @given(st.sampled_from(ARGUMENTS), st.one_of(st.sampled_from(MALFORMED), NESTED))
    @few(MALFORMED_CALLS + 600)
    def attempt(argument, value):
        nonlocal calls
        name, wrong = argument
        if refused(FUNCTIONS[name], wrong, value):
            calls += 1

    with without_type_checks():
        attempt()
    assert calls >= MALFORMED_CALLS


@functools.cache
def signature(function, name):
    """The annotations and the parameters of a function, and how the argument of that name is checked."""
    hints = typing.get_type_hints(function)
    return hints, inspect.signature(function).parameters, _argument(hints[name])


def refused(function, wrong, value):
    """Calls a function with one malformed argument, which its message has to name; False where the argument fits."""
    hints, parameters, argument = signature(function, wrong)
    if argument.fits(value, {}):
        return False  # None may be the default, a class can be called, a tree may hold complex numbers
    arguments = {
        key: None if key in ("self", "cls") else like(hints.get(key, PyTree))
        for key, each in parameters.items()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    } | {wrong: value}
    positional = [
        arguments.pop(key)
        for key, each in parameters.items()
        if key in arguments and (key in ("self", "cls") or each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL))
    ]
    with pytest.raises(ValueError, match=rf"^{wrong}\b.* (is|has) .*; (it|\w+) takes "):
        function(*positional, **arguments)
    return True


# --- Values, and trees that do not match

PARAMS = {"kernel": np.ones((2, 3)), "bias": np.ones(3)}


def network(params, x):
    return x @ params["kernel"] + params["bias"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sketch.magnitudes(X, W[:, None]), r"w has shape \(2, 1\); it takes floating numbers \[d\] with d = 2"),
        (lambda: laws.Determinantal(2 * np.eye(2)).sample(KEY), r"kernel has the eigenvalue 2; it takes"),
        (lambda: laws.Determinantal(-np.eye(2)).outcomes(), r"kernel has the eigenvalue -1; it takes eigenvalues in"),
        (lambda: laws.Determinantal(np.array([[0.5, 0.1], [0, 0.5]])).inclusion(), "kernel is not symmetric; it takes"),
        (lambda: laws.Determinantal(np.full((2, 2), np.nan)).inclusion(), "kernel has the entry nan; it takes finite"),
        (lambda: search.subsets.greedy(X * np.nan, W, 1), "x has the entry nan; it takes finite numbers"),
        (lambda: search.subsets.greedy(X, W * np.inf, 1), "w has the entry inf; it takes finite numbers"),
        (lambda: search.subsets.local_search(X * np.nan, W, 1, key=KEY), "x has the entry nan; it takes finite"),
        (lambda: train.cross_entropy(X, np.array([0, 1, 2])), "labels has entries from 0 to 2; it takes 0 to 1"),
        (lambda: train.cross_entropy(X, np.array([0, -1, 0])), "labels has entries from -1 to 0; it takes 0 to 1"),
        (lambda: masks.apply(PARAMS, {"kernel": np.ones((2, 3))}), r"mask has no leaf \['bias'\]; it takes the struct"),
        (lambda: masks.apply(PARAMS, PARAMS | {"bias": np.ones(2)}), r"mask\['bias'\] has shape \(2,\); it takes"),
        (lambda: kernels.ntk(network, PARAMS, X, mask={"kernel": 1.0}), r"mask has no leaf \['bias'\]; it takes"),
    ],
)  # fmt: skip
def test_values_that_mean_nothing(call, message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        call()


def test_labels_out_of_range_poison_a_traced_loss():
    """JAX drops the gradient of an entry that is out of range, and a score would look sound."""
    from sketchprune import scores

    for labels, finite in (([0, 1, 1], True), ([0, 1, 2], False), ([0, -1, 1], False)):
        found = scores.snip(
            lambda w, x: x @ w, train.cross_entropy, jnp.ones((2, 2)), (jnp.ones((3, 2)), jnp.array(labels))
        )
        assert bool(jnp.isfinite(found).all()) is finite


def test_known_kernels_alone_are_looked_at():
    assert jax.jit(lambda k: laws.Determinantal(k).inclusion())(2 * jnp.eye(2)).tolist() == [2.0, 2.0]
    law = laws.Determinantal.ridge(np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32), 0.5)
    assert law.sample(KEY).shape == (5,)
    assert sketchprune.laws.Determinantal(jnp.eye(2)).sample(KEY).tolist() == [True, True]
