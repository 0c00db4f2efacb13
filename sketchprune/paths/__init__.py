"""The path kernel of a network: its trace and spectrum, path norms, and all paths of small networks."""

from sketchprune.paths.enumeration import Edges as Edges
from sketchprune.paths.enumeration import Paths as Paths
from sketchprune.paths.enumeration import average_pooling as average_pooling
from sketchprune.paths.enumeration import convolution as convolution
from sketchprune.paths.enumeration import enumerate_paths as enumerate_paths
from sketchprune.paths.kernel import gram_product as gram_product
from sketchprune.paths.kernel import path_norm as path_norm
from sketchprune.paths.kernel import spectrum as spectrum
from sketchprune.paths.kernel import trace as trace
