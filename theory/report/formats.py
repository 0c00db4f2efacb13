"""How numbers look in the table of the terminal and on the page."""

import math
from typing import Any

import numpy as np

from theory.verdict import CaseVerdict


def number(value: Any) -> str:
    """A number with three significant digits; a dash for None and for what is not finite.

    >>> number(0.000123456), number(0.5), number(1234.5), number(1234567.0), number(float("nan"))
    ('1.23e-04', '0.5', '1234', '1.23e+06', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if 1e3 <= abs(value) < 1e4:
        return f"{value:.0f}"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e3 else f"{value:.2e}"


def count(value: int) -> str:
    """A number of trials, shortened; a dash for none.

    >>> count(4096), count(131072), count(67108864), count(0)
    ('4096', '131k', '67.1M', '–')
    """
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= max(size, 10**4):
            return f"{value / size:.3g}{unit}"
    return str(value) if value else "–"


def array_text(values: Any) -> str:
    """The numbers of an instance, as NumPy prints them.

    >>> array_text([1.0, None])
    '[ 1., nan]'
    """
    array = np.asarray(values)
    if array.dtype == object:  # JSON has None where a number is not finite
        array = array.astype(float)
    return np.array2string(array, precision=4, separator=", ", max_line_width=96, threshold=64)


def points_text(case: CaseVerdict) -> str:
    """What a rate measured at each size, and the power law through it.

    >>> from theory.kinds.kind import case_verdict
    >>> from dataclasses import replace
    >>> case = case_verdict("SUPPORTED", np.ones(1, bool), method="slopes", measured=-1.0)
    >>> points_text(replace(case, points=((2.0, 3.0), (4.0, 1.5))))
    'measured 3 at 2, 1.5 at 4; fit 6·size^-1'
    """
    sizes, values = np.log(np.asarray(case.points)).T
    factor = np.exp(values.mean() - case.measured * sizes.mean())
    shown = ", ".join(f"{number(value)} at {size:g}" for size, value in case.points)
    return f"measured {shown}; fit {number(factor)}·size^{number(case.measured)}"
