"""Makes the figures named on the command line, or all of them."""

import difflib
import importlib
import pkgutil
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

import figures
from figures._config import Config, Tier
from theory.cli import runtime as backend

OK, USAGE = 0, 2
"""Exit statuses."""
FIGURES = tuple(module.name for module in pkgutil.iter_modules(figures.__path__) if not module.name.startswith("_"))


def make(
    names: Positional[Annotated[tuple[str, ...], arg(metavar="[NAME ...]", help_behavior_hint="(default: all)")]] = (),
    *,
    out: Annotated[Path, arg(metavar="DIR")] = Path("figures/out"),
    seed: int = 0,
    tier: Tier = "standard",
    report: Annotated[Path | None, arg(metavar="PATH")] = None,
) -> None:
    """Make figures: NAME.pdf, NAME.png, and NAME.npz with the numbers in them.

    The same seed and tier give the same bytes on the same machine.

    Args:
        names: which figures.
        out: the folder they are written to.
        seed: what all random keys derive from.
        tier: how much work is behind a figure.
        report: a verdicts.json to draw; without it the claims are verified first.
    """
    for name in names:
        if name not in FIGURES:
            near = difflib.get_close_matches(name, FIGURES) or FIGURES
            raise ValueError(f"names: got {name!r}; takes {' or '.join(near)}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: got {seed}; takes an integer from 0 to 2^63 - 1")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"out: got {out}: {error.strerror}; takes a folder that can be written") from None

    backend.configure()
    import jax
    import numpy as np

    from figures._style import save

    for name in names or FIGURES:
        script = importlib.import_module(f"figures.{name}")
        # As a claim's key comes from its id: another figure changes no number of this one.
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
        arrays = script.data(Config(seed, tier, report), key)
        figure = script.draw(arrays)
        np.savez(out / f"{name}.npz", **arrays)
        for suffix in (".pdf", ".png"):
            save(figure, out / (name + suffix))
        print(out / f"{name}.pdf", flush=True)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    try:
        tyro.cli(make, args=args, prog="python -m figures")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    return OK


if __name__ == "__main__":
    sys.exit(main())
