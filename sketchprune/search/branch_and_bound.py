"""The exact best mask that keeps at most s of few weights, with a proof: branch and bound on the host in float64."""

import heapq
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.optimize
from jaxtyping import Array, Bool, Float

from sketchprune import _checks

MOST_ITEMS = 30
"""Weights of a model at most: proofs grow like 2^d."""
_AT_ONCE = 128
"""Nodes evaluated together."""
_STEPS = 40
"""Of the descent in a relaxed 0/1 problem; any number of them gives a valid bound."""


class Optimum(NamedTuple):
    """The best mask found, and what is proved about it.

    Attributes:
        mask: [d], boolean for 0/1 masks, floating for reweighted ones.
        error: ‖X(m∘w) − Xw‖².
        bound: no mask has a smaller error (to 1e-12 of ‖Xw‖² and of the errors of single weights).
        nodes: visited.
    """

    mask: np.ndarray
    error: float
    bound: float
    nodes: int

    @property
    def gap(self) -> float:
        """How much better than this mask another may be: 0 when the proof is complete."""
        return self.error - self.bound


Nodes = tuple[Bool[np.ndarray, "nodes d"], Bool[np.ndarray, "nodes d"]]
"""Which weights each node keeps and which it drops; at most ``keep`` of the others may be kept beside."""


class Relaxed(NamedTuple):
    """What is known of nodes: a lower bound on the errors in each, a mask of its own, its error, where to branch.

    ``item`` is −1 where the mask is the best of its node.
    """

    bound: Float[np.ndarray, "nodes"]
    mask: np.ndarray
    error: Float[np.ndarray, "nodes"]
    item: np.ndarray


def optimum(
    x: Float[Array | np.ndarray, "n d"],
    w: Float[Array | np.ndarray, "d"],
    keep: int,
    *,
    reweight: bool = False,
    max_nodes: int = 100_000,
) -> Optimum:
    """The mask of least error ‖X(m∘w) − Xw‖² among those that keep at most ``keep`` weights.

    0/1 masks, or with ``reweight`` masks with any entries ≥ 0 (non-negative least squares). Best-first branch and
    bound; after ``max_nodes`` nodes it stops, and ``bound`` says how much better an optimum may be. Works on the
    host in float64 whatever the inputs. ValueError for no or more than 30 weights, ``keep`` below 0 or above their
    number, max_nodes < 1, and numbers that are not finite. O(2^d) nodes at worst, of O(d²) each, or O(d³) with
    ``reweight``. Source: sketch/existence.

    >>> found = optimum(np.eye(3), np.array([1.0, -3.0, 2.0]), 2)
    >>> found.mask.tolist(), round(found.error, 9), round(found.gap, 9)
    ([False, True, True], 1.0, 0.0)
    """
    columns = np.asarray(x, np.float64) * np.asarray(w, np.float64)
    count = columns.shape[1]
    if not 1 <= count <= MOST_ITEMS:
        raise ValueError(f"w has {count} weights; it takes 1 to {MOST_ITEMS}")
    if not np.isfinite(columns).all():
        raise ValueError("x and w have entries that are not finite; it takes finite numbers")
    _checks.whole("keep", keep, least=0)
    _checks.whole("max_nodes", max_nodes, least=1)
    if keep > count:
        raise ValueError(f"keep is {keep}; it takes at most {count}, the number of weights")
    # As many rows as columns: all errors stay what they are.
    triangle = np.asarray(np.linalg.qr(columns, mode="r"))
    relax = _Reweighted(triangle, keep) if reweight else _Binary(triangle, keep)
    slack = 1e-12 * (np.sum(triangle.sum(axis=1) ** 2) + np.sum(triangle**2))
    return _search(relax, count, keep, slack, max_nodes)


def _search(relax: Callable[..., Relaxed], count: int, keep: int, slack: float, max_nodes: int) -> Optimum:
    best_mask, best_error, visited = np.zeros(count), np.inf, 0
    order = itertools.count()
    heap: list[tuple[float, int, np.ndarray, np.ndarray]] = []
    kept, dropped, floor = np.zeros((1, count), bool), np.full((1, count), keep == 0), np.zeros(1)
    while len(kept):
        known = relax(kept, dropped)
        visited += len(kept)
        if (least := known.error.min()) < best_error:
            best_error, best_mask = float(least), known.mask[known.error.argmin()]
        bound = np.maximum(known.bound, floor)
        for i in np.flatnonzero((known.item >= 0) & (bound < best_error - slack)):
            for side in (kept, dropped):
                branch = [kept[i].copy(), dropped[i].copy()]
                branch[side is dropped][known.item[i]] = True
                if branch[0].sum() == keep:
                    branch[1] = ~branch[0]
                heapq.heappush(heap, (float(bound[i]), next(order), *branch))
        taken = []
        while heap and len(taken) < _AT_ONCE and heap[0][0] < best_error - slack and visited + len(taken) < max_nodes:
            taken.append(heapq.heappop(heap))
        floor = np.array([node[0] for node in taken])
        kept = np.array([node[2] for node in taken]).reshape(-1, count)
        dropped = np.array([node[3] for node in taken]).reshape(-1, count)
    proved = not heap or heap[0][0] >= best_error - slack
    return Optimum(best_mask, best_error, best_error if proved else heap[0][0], visited)


class _Binary:
    """0/1 masks: the dropped weights z = 1 − m, relaxed to 0 ≤ z ≤ 1, Σz ≥ d − keep.

    For z in {0, 1} the error zᵀGz is zᵀ(G − tD)z + tΣD_i z_i, D the diagonal of G, and still convex for t up to
    the least eigenvalue of the scaled G; at any z a linear function touches it from below, whose minimum is found
    by sorting.
    """

    def __init__(self, triangle: Float[np.ndarray, "r d"], keep: int):
        self._gram, self._keep = triangle.T @ triangle, keep
        own = np.diag(self._gram)
        scale = 1 / np.sqrt(np.where(own > 0, own, 1))
        scaled = scale[:, None] * self._gram * scale + np.diag((own == 0).astype(float))
        self._linear = max(np.linalg.eigvalsh(scaled)[0], 0.0) * own
        self._convex = self._gram - np.diag(self._linear)
        self._rate = 0.5 / max(np.linalg.eigvalsh(self._convex)[-1], 0.01 * own.max(), 1e-300)

    def __call__(self, kept: np.ndarray, dropped: np.ndarray) -> Relaxed:
        free = ~(kept | dropped)
        wanted = free.shape[1] - self._keep - dropped.sum(axis=1)
        z = self._descent(free, dropped, wanted)
        slope = 2 * z @ self._convex + self._linear
        # The least of the linear function: the wanted number of smallest slopes, and all negative ones.
        ranked = np.sort(np.where(free, slope, np.inf), axis=1)
        chosen = (np.arange(free.shape[1]) < wanted[:, None]) | (ranked < 0)
        lowest = np.sum(np.where(chosen & np.isfinite(ranked), ranked, 0), axis=1)
        value = np.sum(z @ self._convex * z, axis=1) + z @ self._linear
        bound = value + lowest - np.sum(np.where(free, slope * z, 0), axis=1)
        # A mask of the node's own: the largest z are dropped.
        rank = np.argsort(np.argsort(np.where(free, -z, np.inf), axis=1), axis=1)
        gone = dropped | (free & (rank < wanted[:, None]))
        error = np.sum(gone @ self._gram * gone, axis=1)
        settled = free.sum(axis=1) <= np.maximum(wanted, 0)
        item = np.where(settled, -1, np.argmin(np.where(free, abs(z - 0.5), np.inf), axis=1))
        return Relaxed(np.where(settled, error, bound), ~gone, error, item)

    def _descent(self, free: np.ndarray, dropped: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Accelerated projected gradient descent, not necessarily to the end."""
        share = np.clip(wanted / np.maximum(free.sum(axis=1), 1), 0, 1)
        z = ahead = np.where(free, share[:, None], dropped)
        for step in range(_STEPS):
            moved = ahead - self._rate * (2 * ahead @ self._convex + self._linear)
            last, z = z, _projected(moved, free, dropped, wanted)
            ahead = z + step / (step + 3) * (z - last)
        return z


def _projected(z: np.ndarray, free: np.ndarray, dropped: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The nearest point with 0 ≤ z ≤ 1 and Σ_free z ≥ wanted: all are shifted by one number ≥ 0 and clipped.

    The sum is linear in the shift between those where an entry meets 0 or 1.
    """
    cuts = np.sort(np.maximum(np.concatenate([0 * z[:, :1], -z, 1 - z], axis=1), 0), axis=1)
    sums = np.sum(np.clip(z[:, None] + cuts[..., None], 0, 1) * free[:, None], axis=2)
    after = np.argmax(sums >= wanted[:, None] - 1e-9, axis=1)[:, None]
    before = np.maximum(after - 1, 0)
    (low, high), (less, more) = ([np.take_along_axis(a, at, 1) for at in (before, after)] for a in (cuts, sums))
    steep = more > less
    share = np.where(steep, (wanted[:, None] - less) / np.where(steep, more - less, 1), 1)
    return np.where(free, np.clip(z + low + np.clip(share, 0, 1) * (high - low), 0, 1), dropped)


class _Reweighted:
    """Masks ≥ 0: non-negative least squares on all weights that are not dropped, raised by what must still go.

    Where f is the least value on the weights V of a node, at m, any mask that also drops T ⊆ V has at least
    f + m_i²/(G_V⁻¹)_ii for each i in T, and at least f + λ_min(G)Σ_T m_i²: the gradient at m is ≥ 0 and vanishes
    where m > 0.
    """

    def __init__(self, triangle: Float[np.ndarray, "r d"], keep: int):
        self._triangle, self._target, self._keep = triangle, triangle.sum(axis=1), keep
        self._gram = triangle.T @ triangle
        self._norms = np.linalg.norm(triangle, axis=0)

    def __call__(self, kept: np.ndarray, dropped: np.ndarray) -> Relaxed:
        nodes = [self._node(*sides) for sides in zip(kept, dropped, strict=True)]
        return Relaxed(*(np.array(part) for part in zip(*nodes, strict=True)))

    def _node(self, kept: np.ndarray, dropped: np.ndarray) -> tuple[float, np.ndarray, float, int]:
        mask, least = self._fit(~dropped)
        if np.count_nonzero(mask) <= self._keep:
            return least, mask, least, -1
        size = mask * self._norms
        largest = np.argsort(np.where(kept, -np.inf, -size))[: self._keep]
        own, error = self._fit(np.isin(np.arange(len(mask)), largest))
        free = ~(kept | dropped)
        return least + self._increase(mask, ~dropped, free), own, error, int(np.argmax(np.where(free, size, -1)))

    def _fit(self, allowed: np.ndarray) -> tuple[np.ndarray, float]:
        mask = np.zeros(len(allowed))
        if allowed.any():
            mask[allowed] = scipy.optimize.nnls(self._triangle[:, allowed], self._target)[0]
        return mask, float(np.sum((self._triangle @ mask - self._target) ** 2))

    def _increase(self, mask: np.ndarray, allowed: np.ndarray, free: np.ndarray) -> float:
        """How much the error must rise until few enough weights are left."""
        must_go = int(allowed.sum()) - self._keep
        values, vectors = np.linalg.eigh(self._gram[np.ix_(allowed, allowed)])
        if values[0] <= 1e-12 * values[-1]:
            return 0.0  # columns that others can replace
        inverse = np.sum(vectors**2 / values, axis=1)
        among, weights = free[allowed], mask[allowed]
        single = np.sort((weights**2 / inverse)[among])[must_go - 1]
        together = values[0] * np.sum(np.sort(weights[among] ** 2)[:must_go])
        return float(max(single, together))
