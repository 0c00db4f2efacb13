"""The ``lottery/`` family: random masks, and the networks that random sparse networks contain (gadhikar2023random)."""

from theory.catalogue.lottery.connection import WIDTH_NECESSARY
from theory.catalogue.lottery.containment import WIDTH_SUFFICES
from theory.catalogue.lottery.perturbation import PERTURBATION
from theory.catalogue.lottery.subset_sums import SUBSET_SUM_CONSTANT, SUBSET_SUM_THINNING

LOTTERY = (WIDTH_SUFFICES, WIDTH_NECESSARY, SUBSET_SUM_THINNING, SUBSET_SUM_CONSTANT, PERTURBATION)
