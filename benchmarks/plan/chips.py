"""Accelerators by the figures that their vendors publish, and by assumptions where nothing is published."""

import math
from typing import NamedTuple


class Rates(NamedTuple):
    """How much of each kind of work a chip does in a second.

    Attributes:
        products: floating-point operations in matrix products of float32 at precision "highest".
        elementwise: other arithmetic on 32 bits.
        lookups: numbers read or written at computed places of a small array.
        memory: bytes read or written.
    """

    products: float
    elementwise: float
    lookups: float
    memory: float


class Chip(NamedTuple):
    """An accelerator.

    Attributes:
        name: what it is called.
        rates: of the chip.
        memory: bytes of its own.
        interconnect: bytes a second that it gets from other chips of its node.
        node: how many chips that interconnect joins.
        network: bytes a second that it gets from chips of other nodes; NaN where no plan has a second node.
        call: seconds from the end of one program to the start of the next, with the results on the host.
        source: where the published figures stand.
        assumed: the figures that are not published, and what was assumed for them.
    """

    name: str
    rates: Rates
    memory: float
    interconnect: float
    node: int
    network: float
    call: float
    source: str
    assumed: str

    def exchange_seconds(self, chips: int, sent: float) -> float:
        """How long a chip takes to receive what all others send: first those of its node, then those beyond it.

        Args:
            chips: how many.
            sent: bytes that each of them sends.
        """
        near = min(chips, self.node) - 1
        far = chips - 1 - near
        return near * sent / self.interconnect + (far * sent / self.network if far else 0.0)


POD = 256
"""Chips of the largest plan: a full pod of either TPU."""
_TPU_PASSES = 6
"""Products of bfloat16 that XLA makes of one product of float32 at precision "highest" on a TPU."""
_TPU_VECTOR = 8 * 128 * 4 * 1.5e9
"""Lanes, units in each lane, cycles a second."""
_TPU_ASSUMED = "4 vector units in each of 8 x 128 lanes at 1.5 GHz, one lookup a cycle, 1 ms a call"

CHIPS = (
    Chip(
        "H200",
        # A multiprocessor does 64 operations on whole numbers of 32 bits a cycle; there are 132, at up to 1.98 GHz.
        Rates(products=67e12, elementwise=132 * 64 * 1.98e9, lookups=132 * 4 * 1.98e9, memory=4.8e12),
        memory=141e9,
        interconnect=450e9,  # NVLink
        node=8,
        network=50e9,
        call=1e-4,
        source="https://www.nvidia.com/en-us/data-center/h200/ and docs.nvidia.com/cuda/cuda-c-programming-guide",
        assumed="four lookups a cycle on each of 132 multiprocessors, 0.1 ms a call, 400 Gbit/s of network for each "
        "chip between nodes of eight",
    ),
    Chip(
        "TPU v5e",
        Rates(products=197e12 / _TPU_PASSES, elementwise=_TPU_VECTOR, lookups=1.5e9, memory=819e9),
        memory=16e9,
        interconnect=200e9,
        node=POD,
        network=math.nan,
        call=1e-3,
        source="https://cloud.google.com/tpu/docs/v5e",
        assumed=_TPU_ASSUMED,
    ),
    Chip(
        "TPU v6e",
        Rates(products=918e12 / _TPU_PASSES, elementwise=_TPU_VECTOR, lookups=1.5e9, memory=1638e9),
        memory=32e9,
        interconnect=400e9,
        node=POD,
        network=math.nan,
        call=1e-3,
        source="https://cloud.google.com/tpu/docs/v6e",
        assumed=_TPU_ASSUMED,
    ),
)
"""Interconnects are published for both directions; half of that comes in."""
