"""The networks of the pruning literature, as flax modules: ReLU between layers, samples independent.

They take flat features, or images [n, height, width, channels] of 8x8 pixels or more: the digits' 8x8, MNIST's 28x28,
CIFAR's 32x32. Two options are common to all of them.

- ``bias=False`` leaves out every bias, so that a ReLU network is homogeneous in each layer and has a path kernel.
- ``ntk=True`` draws standard normal weights and puts their scale √(g/fan-in) into the forward pass; without it the
  weights are drawn with that scale. The gain g is 2 where a ReLU follows and 1 at the output, and biases start at zero,
  so both parameterisations are the same random function.
"""

from sketchprune._names import own_names
from sketchprune.models.initial import in_training_mode as in_training_mode
from sketchprune.models.initial import initial as initial
from sketchprune.models.initial import with_averages as with_averages
from sketchprune.models.networks import LeNet as LeNet
from sketchprune.models.networks import Mlp as Mlp
from sketchprune.models.networks import PatchNet as PatchNet
from sketchprune.models.networks import ResNet20 as ResNet20
from sketchprune.models.networks import Vgg as Vgg
from sketchprune.models.networks import lenet as lenet
from sketchprune.models.networks import linear as linear
from sketchprune.models.networks import mlp as mlp
from sketchprune.models.networks import patch_net as patch_net
from sketchprune.models.networks import resnet20 as resnet20
from sketchprune.models.networks import vgg11 as vgg11
from sketchprune.models.networks import vgg16 as vgg16
from sketchprune.models.patches import patch_convolution as patch_convolution

__dir__ = own_names(__name__)
