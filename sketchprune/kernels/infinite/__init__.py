"""Infinite-width NTK and NNGP kernels of MLPs and CNNs through neural-tangents, on current JAX.

The kernels are those of the NTK parameterisation, in which every weight and bias is standard normal at the start:

- the first layer reads the input, h_1 = (σ_w/√n_0) W x + σ_b β;
- the others are h_{l+1} = (σ_w/√n_l) W φ(h_l) + σ_b β, and all hidden widths n_l go to infinity;
- for a convolution n_l is the filter's size times the number of channels that it reads;
- the last layer has a σ_w of its own, 1 by default, as the networks of `sketchprune.models` have with ``ntk=True``.
"""

from sketchprune._names import own_names
from sketchprune.kernels.infinite.compatibility import neural_tangents as neural_tangents
from sketchprune.kernels.infinite.limits import Prediction as Prediction
from sketchprune.kernels.infinite.limits import nngp as nngp
from sketchprune.kernels.infinite.limits import ntk as ntk
from sketchprune.kernels.infinite.limits import predict as predict
from sketchprune.kernels.infinite.networks import KernelFn as KernelFn
from sketchprune.kernels.infinite.networks import cnn as cnn
from sketchprune.kernels.infinite.networks import mlp as mlp

__dir__ = own_names(__name__)
