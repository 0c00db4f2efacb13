"""Training inside a random mask, 16 seeds at once: RigL, iterative magnitude pruning and edge-popup, next to loops.

The loops are one over seeds of the same program for one seed, and the same algorithms in PyTorch, which is no
dependency of the project: ``uv pip install torch`` into its environment to compare.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from benchmarks._operations import product_operations
from benchmarks._peers import Torch, absent, torch
from benchmarks._record import OURS, Row
from benchmarks._roofs import products
from benchmarks._timing import in_turns
from sketchprune import data, laws, models, prune, scores, train
from sketchprune.types import Batch, Mask, Params

SEEDS, TORCH_SEEDS = 16, 2
STEPS, BATCH, RATE, MOMENTUM = 60, 64, 0.1, 0.9
WIDTHS = (128, 128, 10)
SOURCE, FINAL = 0.5, 0.1
EVERY, FRACTION = 10, 0.3
ROUNDS = 2
"""Of iterative magnitude pruning, each after a training of all steps."""
LOOP = "PyTorch loop, one core"
OPTIMIZER = optax.sgd(RATE, MOMENTUM)


class Setting(NamedTuple):
    """What one seed starts from; or a stack of seeds.

    Attributes:
        params: initial weights.
        source: the random mask.
        start: a random mask inside it, with the final count of each layer.
        key: for batches and scores.
    """

    params: Params
    source: Mask
    start: Mask
    key: Array


def setting(apply_params: Params, key: Array) -> Setting:
    """One seed: weights, a source at ERK densities with exact counts, and a mask inside it."""
    keys = jax.random.split(key, 4)
    leaves, structure = jax.tree.flatten(apply_params)
    drawn = [
        jax.random.normal(key, leaf.shape, leaf.dtype) * (2 / leaf.shape[0]) ** 0.5
        for key, leaf in zip(jax.random.split(keys[0], len(leaves)), leaves, strict=True)
    ]
    source = laws.ErdosRenyiCounts.at_density(apply_params, SOURCE).sample(keys[1])
    counts = prune.layer_counts(apply_params, FINAL, "erk")
    start = prune.one_shot(scores.random, None, None, apply_params, None, counts, mask=source, key=keys[2])
    return Setting(structure.unflatten(drawn), source, start, keys[3])


def searches(apply: Any, batch: Batch, keeps: np.ndarray) -> dict[str, Callable[[Setting], train.Ticket]]:
    """Name -> the search of one seed."""
    shared = {
        "apply": apply,
        "loss": train.cross_entropy,
        "data": batch,
        "optimizer": OPTIMIZER,
        "steps": STEPS,
        "batch_size": BATCH,
    }

    def options(seed: Setting) -> dict[str, Any]:
        return shared | {"params": seed.params, "mask": seed.source, "key": seed.key}

    return {
        "RigL": lambda seed: train.rigl(start=seed.start, every=EVERY, fraction=FRACTION, **options(seed)),
        "iterative magnitude": lambda seed: train.iterative_magnitude(keeps=keeps, **options(seed)),
        "edge-popup": lambda seed: train.edge_popup(keep=int(keeps[-1]), **options(seed)),
    }


def gradients(name: str) -> int:
    """How many steps a search takes."""
    return STEPS * (ROUNDS + 1) if name == "iterative magnitude" else STEPS


# --- The same in PyTorch


class Peer:
    """The searches in PyTorch, on the numbers of one seed: dense layers without biases, masks on weights."""

    def __init__(self, library: Torch, batch: Batch, seed: Setting, keeps: np.ndarray):
        tensors = [
            [library.tensor(np.asarray(tree[f"Dense_{i}"]["kernel"])) for i in range(len(WIDTHS))]
            for tree in (seed.params, seed.source, seed.start)
        ]
        self.module, self.device = library
        self.keeps = [int(keep) for keep in keeps]
        self.weights, self.source, self.start = tensors
        self.x, self.y = library.tensor(np.asarray(batch[0])), library.tensor(np.asarray(batch[1])).long()

    def loss(self, step: int, weights: list[Any]) -> Any:
        """The loss on the batch of a step."""
        per_epoch = len(self.x) // BATCH
        if step % per_epoch == 0:
            self.order = self.module.randperm(len(self.x), device=self.device)
        chosen = self.order[step % per_epoch * BATCH :][:BATCH]
        x = self.x[chosen]
        for weight in weights[:-1]:
            x = (x @ weight).relu()
        return self.module.nn.functional.cross_entropy(x @ weights[-1], self.y[chosen])

    def trainable(self, values: list[Any], kept: list[Any]) -> tuple[list[Any], Any]:
        """Copies of the values inside a mask, and an optimiser of them."""
        own = [(value * mask).requires_grad_() for value, mask in zip(values, kept, strict=True)]
        return own, self.module.optim.SGD(own, RATE, MOMENTUM)

    def descend(self, step: int, weights: list[Any], optimizer: Any, kept: list[Any]) -> None:
        """One step on the weights of a mask."""
        optimizer.zero_grad()
        self.loss(step, weights).backward()
        for weight, mask in zip(weights, kept, strict=True):
            weight.grad *= mask
        optimizer.step()

    def largest(self, values: list[Any], keep: int, inside: list[Any]) -> list[Any]:
        """The mask of the largest values inside another one, over all layers."""
        flat = self.module.cat(
            [value.masked_fill(~mask, -np.inf).ravel() for value, mask in zip(values, inside, strict=True)]
        )
        chosen = self.module.zeros(len(flat), dtype=self.module.bool, device=self.device)
        chosen[self.module.topk(flat, keep, sorted=False).indices] = True
        parts = chosen.split([value.numel() for value in values])
        return [part.view_as(value) for part, value in zip(parts, values, strict=True)]

    def iterative(self) -> None:
        """Train, prune by magnitude, rewind to the start."""
        kept = self.source
        for keep in (*self.keeps, None):
            weights, optimizer = self.trainable(self.weights, kept)
            for step in range(STEPS):
                self.descend(step, weights, optimizer, kept)
            if keep is not None:
                kept = self.largest([weight.detach().abs() for weight in weights], keep, kept)

    def rigl(self) -> None:
        """Train, and every few steps replace the smallest weights by those of the largest gradients."""
        kept, until = self.start, 3 * STEPS // 4
        weights, optimizer = self.trainable(self.weights, kept)
        for step in range(STEPS):
            if not step or step % EVERY or step >= until:
                self.descend(step, weights, optimizer, kept)
                continue
            optimizer.zero_grad()
            self.loss(step, weights).backward()
            part = FRACTION / 2 * (1 + np.cos(np.pi * step / until))
            kept = [self.rewired(part, *layer) for layer in zip(weights, kept, self.source, strict=True)]
            for weight, mask in zip(weights, kept, strict=True):
                weight.data *= mask
                optimizer.state[weight]["momentum_buffer"] *= mask

    def rewired(self, part: float, weight: Any, kept: Any, source: Any) -> Any:
        """The mask of one layer after it has dropped some weights and grown as many."""
        count = int(kept.sum())
        replaced = round(part * count)
        (stays,) = self.largest([weight.detach().abs()], count - replaced, [kept])
        (grown,) = self.largest([weight.grad.abs()], replaced, [source & ~stays])
        return stays | grown

    def edge_popup(self) -> None:
        """Train scores, with the straight-through gradient."""
        frozen = [weight * mask for weight, mask in zip(self.weights, self.source, strict=True)]
        scores, optimizer = self.trainable(
            [self.module.rand(weight.shape, device=self.device) / len(weight) ** 0.5 for weight in frozen],
            self.source,
        )
        for step in range(STEPS):
            used = self.largest([score.detach() for score in scores], self.keeps[-1], self.source)
            weights = [
                weight * (mask + score - score.detach())
                for weight, mask, score in zip(frozen, used, scores, strict=True)
            ]
            optimizer.zero_grad()
            self.loss(step, weights).backward()
            for score, mask in zip(scores, self.source, strict=True):
                score.grad *= mask
            optimizer.step()


def peer_runs(library: Torch, batch: Batch, seeds: Setting, keeps: np.ndarray) -> dict[str, Callable[[], None]]:
    """Name -> the search of some seeds in PyTorch, one after another, on one core."""
    peers = [
        Peer(library, batch, jax.tree.map(lambda leaf, number=number: leaf[number], seeds), keeps)
        for number in range(TORCH_SEEDS)
    ]

    def run(search: Callable[[Peer], None]) -> None:
        # Layers this small are slower on several threads, and far slower where others use the cores.
        before = library.module.get_num_threads()
        library.module.set_num_threads(1)
        for peer in peers:
            search(peer)
        library.module.set_num_threads(before)

    methods = {"RigL": Peer.rigl, "iterative magnitude": Peer.iterative, "edge-popup": Peer.edge_popup}
    return {name: library.waiting(functools.partial(run, method)) for name, method in methods.items()}


def rows() -> Iterator[Row]:
    """Each search, by the library and by loops."""
    peer, roof = torch(), products()
    digits = data.load()
    batch = jnp.asarray(digits.x / 16, jnp.float32), jnp.asarray(digits.y)
    apply, params = models.initial(models.mlp(*WIDTHS, bias=False), jax.random.key(0), batch[0])
    keeps = prune.exponential_schedule(prune.count(params, SOURCE), prune.count(params, FINAL), ROUNDS)
    seeds = jax.jit(jax.vmap(lambda key: setting(params, key)))(jax.random.split(jax.random.key(1), SEEDS))
    singles = [jax.tree.map(lambda leaf, number=number: leaf[number], seeds) for number in range(SEEDS)]
    in_torch = {} if peer is None else peer_runs(peer, batch, seeds, keeps)
    gradient = jax.grad(lambda params: train.cross_entropy(apply(params, batch[0][:BATCH]), batch[1][:BATCH]))
    operations = product_operations(gradient, params)
    for name, search in searches(apply, batch, keeps).items():
        together, alone = jax.jit(jax.vmap(search)), jax.jit(search)
        # name -> run, and how many seeds it does
        runs: dict[str, tuple[Callable[[], Any], int]] = {
            OURS: (functools.partial(together, seeds), SEEDS),
            "loop over jitted single runs": (functools.partial(_loop, alone, singles), SEEDS),
        }
        if peer is not None:
            runs[peer.named(LOOP)] = (in_torch[name], TORCH_SEEDS)
        timings = in_turns({key: run for key, (run, _) in runs.items()} | {roof.name: roof.run}, rounds=3)
        what = f"{name} of 64-{'-'.join(map(str, WIDTHS))}, {gradients(name)} steps, {SEEDS} seeds at once"
        for key, (_, done) in runs.items():
            seconds = timings[key].seconds / done
            if key == OURS:
                share = roof.share(operations * gradients(name) * done, timings[key], timings[roof.name])
                yield Row(what, key, seconds, timings[key].compile_s, roofline=share, roof=roof.name)
            else:
                yield Row(what, key, seconds, ratio=timings[key].over(timings[OURS]) * SEEDS / done)
        if peer is None:
            yield absent(what, LOOP)


def _loop(alone: Callable[[Setting], train.Ticket], seeds: Sequence[Setting]) -> list[train.Ticket]:
    """One seed after another."""
    return [alone(seed) for seed in seeds]
