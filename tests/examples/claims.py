"""Claims of which only the id matters."""

from theory.claim import Case, Claim, Source
from theory.kinds import Bound


def claim(id):
    return Claim(
        id=id,
        title="a title",
        statement="a = b",
        sources=(Source("bar2023sketching"),),
        kind=Bound(),
        cases=(Case("digits", lambda key, data: key),),
        trial=lambda instance, outcome: {},
    )
