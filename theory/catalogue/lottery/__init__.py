"""The ``lottery/`` family: random masks, and the networks that random sparse networks contain (gadhikar2023random)."""

from theory.catalogue.lottery.perturbation import PERTURBATION

LOTTERY = (PERTURBATION,)
