"""The ``lottery/`` family: random masks, and the networks that they contain (gadhikar2023random).

A mask keeps every weight of layer l with a density p_l of its own, independently. Layer l has N_l weights, the network
N = ΣN_l, and the density is ρ = Σp_l N_l/N. Layer 1 reads the inputs.
"""

from theory.catalogue.effects import (
    EDGE_POPUP,
    RATIOS_BALANCED,
    RATIOS_PYRAMIDAL,
    SPARSE_TO_SPARSE_GRADUAL,
    SPARSE_TO_SPARSE_IMP,
    SPARSE_TO_SPARSE_RIGL,
)
from theory.catalogue.lottery.connection import WIDTH_NECESSARY
from theory.catalogue.lottery.containment import WIDTH_SUFFICES
from theory.catalogue.lottery.densities import DENSITIES_AND_PATHS
from theory.catalogue.lottery.hitting import SUBSET_SUM_RATE
from theory.catalogue.lottery.masks import MASKS
from theory.catalogue.lottery.one_constant import SUBSET_SUM_CONSTANT
from theory.catalogue.lottery.perturbation import PERTURBATION
from theory.catalogue.lottery.strong_tickets import STRONG_TICKET
from theory.catalogue.lottery.subset_sums import SUBSET_SUM_THINNING

LOTTERY = (
    *DENSITIES_AND_PATHS, *MASKS, WIDTH_SUFFICES, WIDTH_NECESSARY, SUBSET_SUM_THINNING, SUBSET_SUM_RATE,
    SUBSET_SUM_CONSTANT, PERTURBATION, STRONG_TICKET, EDGE_POPUP, SPARSE_TO_SPARSE_IMP, SPARSE_TO_SPARSE_GRADUAL,
    SPARSE_TO_SPARSE_RIGL, RATIOS_BALANCED, RATIOS_PYRAMIDAL,
)  # fmt: skip
