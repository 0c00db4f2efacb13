"""Laws of random masks, one file a law, and the layer densities that some of them take."""

from sketchprune.laws.densities import layer_densities as layer_densities
