"""Every claim that ships with sketchprune, in the order in which the report shows them."""

from theory.catalogue.lottery import LOTTERY
from theory.catalogue.paths import PATHS
from theory.catalogue.sketch import SKETCH
from theory.catalogue.tangent import TANGENT
from theory.claim import Claim

CATALOGUE: tuple[Claim, ...] = (*SKETCH, *TANGENT, *PATHS, *LOTTERY)
