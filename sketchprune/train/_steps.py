"""One step of training, restricted to the kept weights: what training one model, many and to convergence share."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float
from jaxtyping import Key as KeyArray

from sketchprune import _checks
from sketchprune._boundary import shown
from sketchprune._leaves import beside, check_params, on_floating, split
from sketchprune._static import static
from sketchprune.train.pruned_optimizer import PrunedState, forgetting, restrict, support, update_kept
from sketchprune.types import Batch, Key, LossFn, Mask, Params

Keys = KeyArray[Array, "..."]
"""One key, or one for each model."""
Loss = Callable[[Params], Float[Array, ""]]
"""The loss on some data, as a function of the parameters."""


class Recipe(NamedTuple):
    """How a model is trained, as a static argument of compiled programs.

    Attributes:
        apply: the network.
        loss: ``loss(outputs, targets)``.
        optimizer: an optax optimiser.
        batch_size: how many samples a step sees; None for all.
        stateful: whether ``apply`` takes a state and a key too, and returns the state beside the outputs.
    """

    apply: Any
    loss: Any
    optimizer: Any
    batch_size: int | None = None
    stateful: bool = False

    @classmethod
    def of(
        cls,
        apply: Callable[..., Any],
        loss: LossFn,
        optimizer: optax.GradientTransformation,
        batch_size: int | None = None,
        network_state: Any = None,
    ) -> "Recipe":
        """The recipe of any functions, also of those that cannot be hashed."""
        return cls(static(apply), static(loss), optimizer, batch_size, network_state is not None)

    def on_floating(self, others: Params) -> "Recipe":
        """The recipe for the floating leaves, in a program that has the others."""
        return self._replace(apply=on_floating(self.apply, others))

    def loss_on(self, data: Batch) -> Loss:
        """The loss on some data, as a function of the parameters; of a network without a state."""
        return functools.partial(_loss_on, self.apply, self.loss, data)

    def loss_and_state_on(self, data: Batch, network: Any, key: Any) -> Callable[[Params], tuple[Array, Any]]:
        """The loss on some data and the next state of the network, as a function of the parameters."""
        if not self.stateful:
            return lambda params: (_loss_on(self.apply, self.loss, data, params), network)
        return functools.partial(_loss_and_state_on, self.apply, self.loss, data, network, key)

    def update(
        self, kept: Mask | None, loss: Loss, params: Params, state: Any, value: Array, gradient: Params
    ) -> tuple[Params, Any]:
        """One update; line searches and L-BFGS ask for the value and for the loss, others ignore them."""
        optimizer = optax.with_extra_args_support(self.optimizer)
        extra = {"value": value, "grad": gradient, "value_fn": loss}
        if kept is None:
            updates, state = optimizer.update(gradient, state, params, **extra)
        else:
            updates, (state, _) = update_kept(optimizer, gradient, PrunedState(state, kept), params, **extra)
        return optax.apply_updates(params, updates), state


class State(NamedTuple):
    """The state of training between two steps.

    Attributes:
        params: the parameters.
        optimizer: the state of the optimiser.
        order: the order of the samples in this epoch.
        network: the state of the network, such as its running averages; None where it has none.
    """

    params: Params
    optimizer: Any
    order: Array
    network: Any = None


class Slope(NamedTuple):
    """The loss on the batch of a step.

    Attributes:
        loss: as a function of the parameters.
        value: at the parameters before the step.
        gradient: there, in all weights, those that are pruned included.
        order: the order of the samples in the epoch of the step.
        network: the state of the network after the step.
    """

    loss: Loss
    value: Float[Array, ""]
    gradient: Params
    order: Array
    network: Any


class Training(NamedTuple):
    """The training of one model.

    Attributes:
        recipe: how it is trained.
        data: inputs and targets.
        key: for the batches.
    """

    recipe: Recipe
    data: Batch
    key: Key | None

    def start(self, params: Params, mask: Mask | None, network: Any = None) -> State:
        """The state before the first step."""
        params = restricted(params, mask)
        optimizer = optax.with_extra_args_support(self.recipe.optimizer).init(params)
        return State(params, optimizer, jnp.arange(len(self.data[0])), network)

    def slope(self, state: State, step: Array) -> Slope:
        """The loss and its gradient at the state before a step."""
        batch, order = self._batch(step, state.order)
        key = _step_key(self.key, step) if self.recipe.stateful else None
        both = self.recipe.loss_and_state_on(batch, state.network, key)
        (value, network), gradient = jax.value_and_grad(both, has_aux=True)(state.params)
        return Slope(lambda params: both(params)[0], value, gradient, order, network)

    def descend(self, state: State, slope: Slope, mask: Mask | None) -> State:
        """The state after a step of the optimiser."""
        kept = None if mask is None else support(state.params, mask)
        at = state.params, state.optimizer, slope.value, slope.gradient
        return State(*self.recipe.update(kept, slope.loss, *at), slope.order, slope.network)

    def advance(self, mask: Mask | None, state: State, step: Array) -> tuple[State, Float[Array, ""]]:
        """The state after a step, and the loss before it."""
        slope = self.slope(state, step)
        return self.descend(state, slope, mask), slope.value

    def restricted(self, state: State, mask: Mask) -> State:
        """The state with zero weights outside the mask, of which the optimiser remembers nothing."""
        params = restricted(state.params, mask)
        forget = forgetting(self.recipe.optimizer, params, mask)
        return state._replace(params=params, optimizer=forget(state.optimizer))

    def _batch(self, step: Array, order: Array) -> tuple[Batch, Array]:
        """The batch of a step, and the order of the samples, drawn anew at the start of an epoch."""
        batch_size, samples = self.recipe.batch_size, len(self.data[0])
        if batch_size is None:
            return self.data, order
        per_epoch = samples // batch_size
        epoch, position = step // per_epoch, step % per_epoch
        order = lax.cond(position == 0, lambda epoch: _permutation(self.key, epoch, samples), lambda _: order, epoch)
        chosen = lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
        return jax.tree.map(lambda values: values[chosen], self.data), order


def floating(params: Params, mask: Mask | None) -> tuple[Params, Params, Mask | None]:
    """The floating leaves of the parameters, all others, and the support of the mask beside the floating ones."""
    own, others = split(params)
    return own, others, None if mask is None else beside(own, support(params, mask))


def restricted(tree: Params, mask: Mask | None) -> Params:
    """The values on the support of a mask, zero elsewhere."""
    return tree if mask is None else restrict(tree, support(tree, mask))


def check_data(data: Batch) -> int:
    """The number of samples; refuses inputs and targets of different length."""
    x, y = data
    if len(x) != len(y) or not len(x):
        raise ValueError(f"data has {len(x)} inputs and {len(y)} targets; it takes as many of each, at least one")
    return len(x)


def check_batches(params: Params, data: Batch, steps: int, key: Keys | None, batch_size: int | None) -> None:
    """Refuses parameters that are no arrays, and data, steps and batch sizes that do not go together."""
    check_params("params", params)
    _checks.whole("steps", steps, least=0)
    samples = check_data(data)
    if batch_size is not None:
        if not 1 <= batch_size <= samples:
            raise ValueError(f"batch_size is {batch_size}; it takes 1 to {samples}, the number of samples")
        _checks.needed(key, "since batch_size asks for random batches")


def _loss_on(apply: Any, loss: Any, data: Batch, params: Params) -> Float[Array, ""]:
    x, y = data
    return loss(apply(params, x), y)


def _loss_and_state_on(
    apply: Any, loss: Any, data: Batch, network: Any, key: Any, params: Params
) -> tuple[Float[Array, ""], Any]:
    x, y = data
    # A copy, since a state of equinox can be used once, and line searches ask for the loss again.
    found = apply(params, x, state=jax.tree.map(lambda leaf: leaf, network), key=key)
    if not isinstance(found, tuple) or len(found) != 2:
        raise ValueError(f"apply returns {shown(found)}; with network_state it takes one that returns (outputs, state)")
    outputs, after = found
    given, returned = (jax.eval_shape(lambda tree=tree: tree) for tree in (network, after))
    _checks.same_shapes("the state that apply returns", returned, "the state that it is given", given, dtypes=True)
    return loss(outputs, y), after


def _step_key(key: Any, step: Array) -> Any:
    """The key of a step, such as for dropout; None without one."""
    # Epochs, and what grows at random, draw with the key folded with other numbers.
    return None if key is None else jax.random.fold_in(jax.random.fold_in(key, 2**32 - 2), step)


def _permutation(key: Any, epoch: Array, samples: int) -> Array:
    """The order of the samples in an epoch."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), samples)
