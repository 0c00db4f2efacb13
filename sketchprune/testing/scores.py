"""What a pruning score must satisfy, checked on one small network."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sketchprune import masks
from sketchprune.types import ApplyFn, Key, LossFn, Mask, Params, Prunable, ScoreFn, Scores

SMALL_BLOCK = 2
"""Samples in a block where blocks are compared with all samples at once."""


def check_score(
    score: ScoreFn,
    apply: ApplyFn | None,
    loss: LossFn | None,
    params: Params,
    batch: Any,
    *,
    key: Key | None = None,
    prunable: Prunable = None,
    **options: Any,
) -> None:
    """Checks that a score keeps the contract of :mod:`sketchprune.scores`.

    The network should be small, and have a leaf that is never pruned (a bias, or by ``prunable`` any other) so that
    this is checked too. What is checked:

    - scores are shaped like the parameters and have their dtype, in float32 and, with x64, in float64;
    - they are +inf on leaves that are never pruned, −inf where the mask has pruned, and finite elsewhere, also where
      all weights are zero;
    - the value of a pruned weight changes no score, and a boolean mask is the floating mask of the same entries;
    - the same call gives the same scores; jit and vmap give those of the plain call;
    - the order of the samples does not matter, nor does their division into blocks (of scores made by `scores.score`);
    - without a key a score that needs one raises ValueError, with a message that begins "key is None";
    - a NaN weight gives NaN scores, which `masks.keep_top` refuses, unless scores do not depend on the weights.

    Args:
        score: the score.
        apply: the network; whatever the score does not use may be None.
        loss: its loss.
        params: its parameters, floating.
        batch: inputs and targets; at least three samples divide into blocks.
        key: for scores that need one; a fixed one by default.
        prunable: which leaves may be pruned, as for :func:`sketchprune.masks.prunable`. It is passed on to the score
            where it is given.
        options: of the score.

    Raises:
        AssertionError: naming the score and what it does wrong.
        ValueError: as :func:`sketchprune.masks.prunable`.

    Cost: three compilations of the score; a fourth where it goes through samples in blocks.

    >>> from sketchprune import scores
    >>> check_score(scores.magnitude, None, None, {"w": jnp.ones((2, 3)), "bias": jnp.ones(3)}, None)
    """
    key = jax.random.key(0) if key is None else key
    params = jax.tree.map(np.asarray, params)
    if prunable is not None:
        options["prunable"] = prunable

    def run(params: Params, batch: Any, mask: Mask | None = None, *, score: ScoreFn = score, **keys: Any) -> Scores:
        params, batch, mask = jax.tree.map(jnp.asarray, (params, batch, mask))
        return score(apply, loss, params, batch, mask=mask, **({"key": key} | keys), **options)

    name = getattr(score, "__name__", repr(score))
    subject = _Subject(name, run, params, batch, masks.prunable(params, prunable))
    found = _traced_variants(subject)
    _check_variants(subject, found)
    _check_plain(subject, found)
    _check_blocks(subject, found, score)
    _check_other_dtype(subject, found)
    _check_key(name, lambda: run(params, batch, subject.selection(), key=None))


class _Subject(NamedTuple):
    """What is checked.

    Attributes:
        name: the score's name, for messages.
        run: ``run(params, batch, mask) -> scores``.
        params: the parameters, in NumPy.
        batch: inputs and targets.
        prunable: which leaves may be pruned.
    """

    name: str
    run: Any
    params: Params
    batch: Any
    prunable: PyTree[bool]

    def selection(self) -> Mask:
        """A boolean mask of about two thirds of the weights that may be pruned, the first of each leaf among them."""
        rng = np.random.default_rng(0)

        def leaf(weight: Any, pruned: bool) -> np.ndarray:
            kept = rng.random(weight.shape) < 2 / 3
            kept.flat[:2] = (True, False)[: kept.size]
            return kept if pruned else np.ones(weight.shape, bool)

        return jax.tree.map(leaf, self.params, self.prunable)


class _Variant(NamedTuple):
    """Arguments of the score."""

    params: Params
    batch: Any
    mask: Mask


def _variants(subject: _Subject) -> dict[str, _Variant]:
    """Changes of the arguments, by what messages call them."""
    params, batch, selection = subject.params, subject.batch, subject.selection()
    factors = np.random.default_rng(1)
    zero_one = jax.tree.map(lambda kept, leaf: kept.astype(leaf.dtype), selection, params)
    sketch = jax.tree.map(lambda m: m * np.where(m < 1, 1, factors.uniform(0.5, 2, m.shape)).astype(m.dtype), zero_one)
    sketch = jax.tree.map(lambda m, pruned: m if pruned else np.ones_like(m), sketch, subject.prunable)
    other = jax.tree.map(lambda leaf, m: np.where(m != 0, leaf, 3 - 2 * leaf), params, sketch)
    reordered = jax.tree.map(lambda leaf: np.asarray(leaf)[::-1], batch)
    return {
        "of a sketch": _Variant(params, batch, sketch),
        "with other values of pruned weights": _Variant(other, batch, sketch),
        "with samples in another order": _Variant(params, reordered, sketch),
        "of a selection": _Variant(params, batch, zero_one),
        "of all weights": _Variant(params, batch, jax.tree.map(np.ones_like, params)),
        "where all weights are zero": _Variant(jax.tree.map(np.zeros_like, params), batch, sketch),
        "where a weight is NaN": _Variant(_with_nan(subject), batch, sketch),
    }


def _with_nan(subject: _Subject) -> Params:
    """NaN in the first weight of the first leaf that may be pruned."""
    leaves, structure = jax.tree.flatten(subject.params)
    at = jax.tree.leaves(subject.prunable).index(True)
    leaves[at] = leaves[at].copy()
    leaves[at].flat[0] = np.nan
    return structure.unflatten(leaves)


def _traced_variants(subject: _Subject) -> dict[str, Scores]:
    """The scores of all variants, from one program under jit and vmap."""
    variants = _variants(subject)
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), *variants.values())
    try:
        together = jax.device_get(jax.jit(jax.vmap(subject.run))(*stack))
    except jax.errors.JAXTypeError as fault:
        raise AssertionError(f"{subject.name} cannot be traced: {fault}") from fault
    rows = [jax.tree.map(lambda leaf: leaf[row], together) for row in range(len(variants))]  # noqa: B023 - used at once
    return dict(zip(variants, rows, strict=True))


def _check_variants(subject: _Subject, found: dict[str, Scores]) -> None:
    """Both infinities, what must not matter, and weights that are zero or NaN."""
    name, sketch = subject.name, _variants(subject)["of a sketch"].mask
    for variant in ("of a sketch", "where all weights are zero"):
        _check_conventions(f"{name} {variant}", found[variant], subject, sketch)
    for variant in ("with other values of pruned weights", "with samples in another order"):
        _check_same(f"{name} {variant}", found["of a sketch"], found[variant])
    _check_nan(name, found["of a sketch"], found["where a weight is NaN"])


def _check_plain(subject: _Subject, found: dict[str, Scores]) -> None:
    """A boolean mask, without jit: the same scores, each time."""
    name, params, batch, selection = subject.name, subject.params, subject.batch, subject.selection()
    plain = subject.run(params, batch, selection)
    _check_conventions(f"{name} of a boolean mask", plain, subject, selection)
    _check_same(f"{name} of the same arguments", plain, subject.run(params, batch, selection), exact=True)
    _check_same(f"{name} of a boolean mask, without jit,", found["of a selection"], plain)


def _check_blocks(subject: _Subject, found: dict[str, Scores], score: Any) -> None:
    """Blocks of samples change nothing; of scores that `scores.score` made of a formula that looks at samples."""
    if subject.batch is None or not hasattr(score, "with_block_size"):
        return
    arguments = subject.params, subject.batch, subject.selection()
    in_blocks = functools.partial(subject.run, score=score.with_block_size(SMALL_BLOCK))
    if str(jax.make_jaxpr(in_blocks)(*arguments)) != str(jax.make_jaxpr(subject.run)(*arguments)):
        _check_same(f"{subject.name} of samples in blocks", found["of a selection"], in_blocks(*arguments))


def _check_other_dtype(subject: _Subject, found: dict[str, Scores]) -> None:
    """No mask, and parameters of another dtype where JAX has one at this setting."""
    own = jnp.result_type(*jax.tree.leaves(subject.params))
    known = {np.dtype("float32"), jnp.result_type(float)}  # the latter is float64 where x64 is on
    for dtype in known - {own} or {own}:
        converted = jax.tree.map(lambda leaf: leaf.astype(dtype), subject.params)  # noqa: B023 - used at once
        scores = subject.run(converted, subject.batch)
        what = f"{subject.name} of {dtype} parameters without a mask"
        _check_conventions(what, scores, subject._replace(params=converted), None)
        if dtype == own:
            _check_same(f"{subject.name} without a mask", found["of all weights"], scores)


def _check_conventions(what: str, scores: Scores, subject: _Subject, mask: Mask | None) -> None:
    """Structure, shapes, dtypes, both infinities, and finite numbers elsewhere."""
    params = subject.params
    structure = jax.tree.structure(params)
    assert jax.tree.structure(scores) == structure, f"{what} has the structure {jax.tree.structure(scores)}"
    kept = mask if mask is not None else jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
    leaves = zip(
        jax.tree_util.tree_leaves_with_path(params),
        *map(jax.tree.leaves, (scores, kept, subject.prunable)),
        strict=True,
    )
    for (path, weight), score, m, pruned in leaves:
        leaf = f"{what}, leaf {jax.tree_util.keystr(path) or 'params'},"
        assert jnp.shape(score) == weight.shape, (
            f"{leaf} has shape {jnp.shape(score)}; the parameters' is {weight.shape}"
        )
        assert score.dtype == weight.dtype, f"{leaf} has dtype {score.dtype}; that of the parameters is {weight.dtype}"
        values, m = np.asarray(score), np.asarray(m)
        if not pruned:
            assert (values == np.inf).all(), f"{leaf} is never pruned, and its scores are not +inf"
            continue
        assert (values[m == 0] == -np.inf).all(), f"{leaf} has scores other than -inf where the mask has pruned"
        assert np.isfinite(values[m != 0]).all(), f"{leaf} has scores that are not finite: {values[m != 0]}"


def _check_same(what: str, expected: Scores, found: Scores, *, exact: bool = False) -> None:
    """Scores that are the same, up to rounding unless ``exact``."""
    one, other = _joined(expected), _joined(found)
    finite = np.isfinite(one)
    assert (np.isfinite(other) == finite).all(), f"{what} differs in which scores are finite"
    largest = np.max(abs(one), where=finite, initial=0)
    gap = np.max(abs(np.where(finite, one, 0) - np.where(finite, other, 0)), where=finite, initial=0)
    allowed = 0 if exact else np.finfo(one.dtype).eps ** 0.5 * largest
    assert gap <= allowed, f"{what} differs by {gap:.2g} where the largest score is {largest:.2g}"


def _joined(scores: Scores) -> np.ndarray:
    """All scores as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(scores))])


def _check_nan(name: str, expected: Scores, broken: Scores) -> None:
    """NaN shows, and cannot be ranked."""
    if np.array_equal(_joined(expected), _joined(broken)):
        return  # scores that do not depend on the weights
    assert np.isnan(_joined(broken)).any(), f"{name} of a weight that is NaN has no NaN: the fault would go unseen"
    try:
        masks.keep_top(jax.tree.map(jnp.asarray, broken), 1)
    except ValueError:
        return
    raise AssertionError(f"{name} of a weight that is NaN is taken by masks.keep_top")


def _check_key(name: str, without_key: Any) -> None:
    """Without a key, scores or the ValueError that says so."""
    try:
        without_key()
    except ValueError as fault:
        assert str(fault).startswith("key is None"), f"{name} without a key raises {fault!r}"
    except Exception as fault:
        raise AssertionError(f"{name} without a key raises {fault!r}; it takes ValueError('key is None; …')") from fault
