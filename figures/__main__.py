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
from theory.cli import runtime
from theory.cli.arguments import check_seed
from theory.cli.exit_status import ExitStatus


def names_of_figures() -> tuple[str, ...]:
    """The name of every figure: of every module of the folder that does not start with an underscore."""
    return tuple(module.name for module in pkgutil.iter_modules(figures.__path__) if not module.name.startswith("_"))


FIGURES = names_of_figures()


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
        out: the folder that they are written to.
        seed: the seed that all random keys derive from.
        tier: how much work is done for a figure.
        report: a verdicts.json to draw; without it the claims are verified first.
    """
    for name in names:
        _check_name(name)
    check_seed(seed)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"out is {out}, which cannot be written ({error.strerror}); it takes a folder that can be written"
        ) from None
    runtime.configure(x64=True)
    for name in names or FIGURES:
        _make_one(name, Config(seed, tier, report), out)
        print(out / f"{name}.pdf", flush=True)


def _check_name(name: str):
    """Refuse a name that is no figure's."""
    if name not in FIGURES:
        near = difflib.get_close_matches(name, FIGURES) or FIGURES
        raise ValueError(f"names holds {name!r}; it takes {' or '.join(near)}")


def _make_one(name: str, config: Config, out: Path):
    """Compute the numbers of a figure, draw them, and write both."""
    import jax
    import numpy as np

    from figures._style import save

    module = importlib.import_module(f"figures.{name}")
    # The key derives from the name, so that adding a figure changes the numbers of no other.
    key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()))
    arrays = module.data(config, key)
    figure = module.draw(arrays)
    np.savez(out / f"{name}.npz", **arrays)
    for suffix in (".pdf", ".png"):
        save(figure, out / (name + suffix))


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        args: the words after ``python -m figures``; those of the process by default.
    """
    try:
        tyro.cli(make, args=args, prog="python -m figures")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitStatus.USAGE
    return ExitStatus.OK


if __name__ == "__main__":
    sys.exit(main())
