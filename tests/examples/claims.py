"""Claims of which only the id matters."""

from theory.claim import Bound, Case, Claim, Source


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
