"""Laws of random masks, a file for each: sampling, inclusion, exact error, enumeration, training bound."""

from sketchprune._names import own_names
from sketchprune.laws.counts import layer_counts as layer_counts
from sketchprune.laws.counts import layer_order as layer_order
from sketchprune.laws.densities import layer_densities as layer_densities
from sketchprune.laws.densities import realised_density as realised_density
from sketchprune.laws.determinantal import Determinantal as Determinantal
from sketchprune.laws.determinantal import effective_dimension as effective_dimension
from sketchprune.laws.determinantal import fixed_size_dpp_error as fixed_size_dpp_error
from sketchprune.laws.erdos_renyi import ErdosRenyi as ErdosRenyi
from sketchprune.laws.erdos_renyi import ErdosRenyiCounts as ErdosRenyiCounts
from sketchprune.laws.fixed_size import FixedSize as FixedSize
from sketchprune.laws.items import Items as Items
from sketchprune.laws.law import Law as Law
from sketchprune.laws.multinomial import Multinomial as Multinomial
from sketchprune.laws.poisson import Poisson as Poisson
from sketchprune.laws.poisson import poisson_rates as poisson_rates
from sketchprune.laws.subsets import all_subsets as all_subsets

LAWS: dict[str, type] = {
    "multinomial": Multinomial,
    "poisson": Poisson,
    "fixed-size": FixedSize,
    "determinantal": Determinantal,
    "erdos-renyi": ErdosRenyi,
    "erdos-renyi-counts": ErdosRenyiCounts,
}
"""All laws, by the names that the commands know."""

__dir__ = own_names(__name__)
