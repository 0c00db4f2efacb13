"""The ``lottery/`` family: random masks, and the networks that they contain (gadhikar2023random).

A mask keeps every weight of layer l with a density p_l of its own, independently. Layer l has N_l weights, the network
N = ΣN_l, and the density is ρ = Σp_l N_l/N. Layer 1 reads the inputs.
"""

from theory.catalogue.lottery.densities import DENSITIES_AND_PATHS
from theory.catalogue.lottery.masks import MASKS

LOTTERY = (
    *DENSITIES_AND_PATHS,
    *MASKS,
)
