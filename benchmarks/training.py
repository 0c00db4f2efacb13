"""Training 1 to 256 masked networks at once, beside loops in PyTorch, its vmap, and a plain vmap of JAX."""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._operations import product_operations
from benchmarks._peers import Torch, absent, torch
from benchmarks._record import OURS, Row, Target
from benchmarks._roofs import products
from benchmarks._timing import in_turns
from sketchprune import data, laws, masks, models, prune, train
from sketchprune.types import ApplyFn, Mask, Params

COUNTS = (1, 4, 16, 64, 256)
STEPS, BATCH, RATE, MOMENTUM, DENSITY = 300, 128, 0.1, 0.9, 0.2
WIDTHS = (128, 128, 10)
LOOPED = 4
"""Networks that PyTorch's loops train a round; each costs the same."""
TORCH_STEPS = 60
"""Steps of PyTorch's vmap a round; each costs the same."""
LEAST = 4
"""How many times as fast as the better of PyTorch's loops 64 networks have to be trained."""
LOOP = "PyTorch loop"
OPTIMIZER = optax.sgd(RATE, MOMENTUM)


class Problem(NamedTuple):
    """What is trained.

    Attributes:
        apply: the network.
        params: initial weights, shared by all masks.
        x: the images.
        y: their classes.
        stack: as many masks as the largest count.
        key: for the batches.
    """

    apply: ApplyFn
    params: Params
    x: jax.Array
    y: jax.Array
    stack: Mask
    key: jax.Array

    def masks(self, count: int) -> Mask:
        """The first masks of the stack."""
        return jax.tree.map(lambda leaf: leaf[:count], self.stack)


def problem() -> Problem:
    """A multilayer perceptron on the digits, with masks of exact size."""
    digits = data.load()
    x, y = jnp.asarray(digits.x / 16, jnp.float32), jnp.asarray(digits.y)
    apply, params = models.initial(models.mlp(*WIDTHS), jax.random.key(0), x)
    keep = prune.count(params, DENSITY)
    prunable, sampler = masks.prunable(params), prune.proportional(laws.FixedSize)

    def drawn(key: jax.Array) -> Any:
        size = jax.tree.map(
            lambda leaf, pruned: abs(leaf) if pruned else jnp.full_like(leaf, jnp.inf), params, prunable
        )
        return sampler(key, size, keep)

    stack = jax.jit(jax.vmap(drawn))(jax.random.split(jax.random.key(1), max(COUNTS)))
    return Problem(apply, params, x, y, stack, jax.random.key(2))


def fit_many(posed: Problem, count: int) -> train.Fits:
    """The first networks, by the library."""
    return train.fit_many(
        posed.apply,
        train.cross_entropy,
        posed.params,
        (posed.x, posed.y),
        OPTIMIZER,
        STEPS,
        mask=posed.masks(count),
        key=posed.key,
        batch_size=BATCH,
    )


def plain_vmap(posed: Problem) -> Callable[[Mask], Any]:
    """All networks of a stack of masks in one program, as one writes it in JAX: a scan over steps, vmapped."""

    def one(mask: Mask) -> jax.Array:
        def loss(params: Params, batch: jax.Array) -> jax.Array:
            return train.cross_entropy(posed.apply(params, posed.x[batch]), posed.y[batch])

        def step(carry: Any, batch: jax.Array) -> Any:
            params, state = carry
            value, slopes = jax.value_and_grad(loss)(params, batch)
            slopes = jax.tree.map(jnp.multiply, slopes, mask)
            updates, state = OPTIMIZER.update(slopes, state)
            return (optax.apply_updates(params, updates), state), value

        start = jax.tree.map(jnp.multiply, posed.params, mask)
        per_epoch = len(posed.x) // BATCH
        epochs = jax.random.split(posed.key, -(-STEPS // per_epoch))
        orders = jax.vmap(lambda key: jax.random.permutation(key, len(posed.x))[: per_epoch * BATCH])(epochs)
        batches = orders.reshape(-1, BATCH)[:STEPS]
        return jax.lax.scan(step, (start, OPTIMIZER.init(start)), batches)[1]

    return jax.jit(jax.vmap(one))


def rows() -> Iterator[Row]:
    """Each number of networks, by the library and by the others."""
    posed, peer, roof = problem(), torch(), products()
    vmapped = plain_vmap(posed)
    gradient = jax.grad(lambda params: train.cross_entropy(posed.apply(params, posed.x[:BATCH]), posed.y[:BATCH]))
    operations = STEPS * product_operations(gradient, posed.params)
    for count in COUNTS:
        ours = functools.partial(fit_many, posed, count)
        # name -> run, and how many networks times steps it does of those that are asked for
        runs: dict[str, tuple[Callable[[], Any], float]] = {
            OURS: (ours, count),
            "plain jax.vmap": (functools.partial(vmapped, posed.masks(count)), count),
        }
        if peer is not None:
            runs |= _in_torch(peer, posed, count)
        timings = in_turns({name: run for name, (run, _) in runs.items()} | {roof.name: roof.run}, rounds=5)
        what = f"training a mask of 64-{'-'.join(map(str, WIDTHS))}, {STEPS} steps, {count} at once"
        yield Row(
            what,
            seconds=timings[OURS].seconds / count,
            compile_s=timings[OURS].compile_s,
            roofline=roof.share(operations * count, timings[OURS], timings[roof.name]),
            roof=roof.name,
            error=_error(posed) if count == 1 else None,
        )
        looped = [] if peer is None else list(loops(peer))
        better = min(looped, key=lambda name: timings[name].seconds, default=None)
        target = Target("ratio", least=LEAST) if count == 64 else None
        for name, (_, done) in runs.items():
            if name != OURS:
                timing = timings[name]
                ratio = timing.over(timings[OURS]) * count / done
                asked = target if name == better else None
                compile_s = timing.compile_s if name == "plain jax.vmap" else None
                yield Row(what, name, timing.seconds / done, compile_s, ratio, target=asked)
        if peer is None:
            yield absent(what, LOOP, target)


def _error(posed: Problem) -> float:
    """The relative error of the first step's loss and of the loss after ten steps against float64, the larger one."""

    def losses(params: Params, x: jax.Array) -> np.ndarray:
        fitted = train.fit(
            posed.apply,
            train.cross_entropy,
            params,
            (x, posed.y),
            OPTIMIZER,
            10,
            mask=jax.tree.map(lambda leaf: leaf[0], posed.stack),
        )
        return np.asarray(fitted[1], np.float64)

    found = losses(posed.params, posed.x)
    with jax.enable_x64():
        exact = losses(*jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), (posed.params, posed.x)))
    return float(np.max(abs(found - exact) / exact))


# --- The same in PyTorch


def _in_torch(peer: Torch, posed: Problem, count: int) -> dict[str, tuple[Callable[[], Any], float]]:
    """Name -> a run in PyTorch, and how many networks it trains."""
    looped = min(count, LOOPED)
    loop = functools.partial(torch_loop, peer, posed, looped)
    runs: dict[str, tuple[Callable[[], Any], float]] = {
        name: (peer.waiting(functools.partial(loop, threads=threads)), looped) for name, threads in loops(peer).items()
    }
    vmapped = peer.waiting(functools.partial(torch_vmap, peer, posed, count, steps=TORCH_STEPS))
    return runs | {peer.named("torch.func.vmap"): (vmapped, count * TORCH_STEPS / STEPS)}


def loops(peer: Torch) -> dict[str, int]:
    """Name of a row -> threads of the loop; on a GPU the host only starts the work, and one thread does that."""
    if peer.device == "cuda":
        return {peer.named(LOOP): 1}
    return {peer.named(f"{LOOP}, all cores"): os.cpu_count() or 1, peer.named(f"{LOOP}, one core"): 1}


def torch_loop(peer: Torch, posed: Problem, count: int, *, threads: int) -> None:
    """Mask by mask: gradients and weights are masked."""
    before = peer.module.get_num_threads()
    peer.module.set_num_threads(threads)
    inputs, labels = peer.tensor(np.asarray(posed.x)), peer.tensor(np.asarray(posed.y)).long()
    layers = range(len(WIDTHS))
    for number in range(count):
        net = peer.module.nn.Sequential()
        kept = [peer.tensor(np.asarray(posed.stack[f"Dense_{i}"]["kernel"][number]).T.copy()) for i in layers]
        for i in layers:
            dense = peer.module.nn.Linear(*reversed(kept[i].shape), device=peer.device)
            with peer.module.no_grad():
                weight = peer.tensor(np.asarray(posed.params[f"Dense_{i}"]["kernel"]).T.copy())
                dense.weight.copy_(weight * kept[i])
                dense.bias.zero_()
            net.append(dense)
            if i < layers[-1]:
                net.append(peer.module.nn.ReLU())
        weights = [part.weight for part in net if hasattr(part, "weight")]
        optimizer = peer.module.optim.SGD(net.parameters(), RATE, MOMENTUM)
        for chosen in _batches(peer, len(inputs), STEPS):
            optimizer.zero_grad()
            peer.module.nn.functional.cross_entropy(net(inputs[chosen]), labels[chosen]).backward()
            for weight, mask in zip(weights, kept, strict=True):
                weight.grad *= mask
            optimizer.step()
    peer.module.set_num_threads(before)


def torch_vmap(peer: Torch, posed: Problem, count: int, *, steps: int) -> None:
    """All networks at once: torch.func.vmap of a gradient, then one update of the stacked weights."""
    inputs, labels = peer.tensor(np.asarray(posed.x)), peer.tensor(np.asarray(posed.y)).long()
    layers = range(len(WIDTHS))
    stacked = posed.masks(count)
    kept = [peer.tensor(np.asarray(stacked[f"Dense_{i}"]["kernel"], np.float32)) for i in layers]
    weights = [peer.tensor(np.asarray(posed.params[f"Dense_{i}"]["kernel"])) * kept[i] for i in layers]
    biases = [peer.module.zeros(count, width, device=peer.device) for width in WIDTHS]
    masked = [*kept, *(peer.module.ones(count, 1, device=peer.device) for _ in layers)]
    params = [*weights, *biases]
    momenta = [peer.module.zeros_like(param) for param in params]

    def loss(params: Any, x: Any, y: Any) -> Any:
        for i in layers:
            x = x @ params[i] + params[len(WIDTHS) + i]
            x = x.relu() if i < layers[-1] else x
        return peer.module.nn.functional.cross_entropy(x, y)

    slopes = peer.module.func.vmap(peer.module.func.grad(loss), in_dims=(0, None, None))
    for chosen in _batches(peer, len(inputs), steps):
        found = slopes(params, inputs[chosen], labels[chosen])
        for param, momentum, slope, mask in zip(params, momenta, found, masked, strict=True):
            momentum.mul_(MOMENTUM).add_(slope * mask)
            param.sub_(momentum, alpha=RATE)


def _batches(peer: Torch, samples: int, steps: int) -> Iterator[Any]:
    """The samples of each step, in a new order each epoch."""
    per_epoch = samples // BATCH
    order = peer.module.randperm(samples, device=peer.device)
    for step in range(steps):
        if step and step % per_epoch == 0:
            order = peer.module.randperm(samples, device=peer.device)
        yield order[step % per_epoch * BATCH :][:BATCH]
