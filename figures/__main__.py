"""Makes the figures named on the command line, or all of them."""

import difflib
import functools
import importlib
import pkgutil
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional, arg

import figures
from theory.cli import runtime
from theory.cli.arguments import Data, check_seed
from theory.cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from figures._config import Config


def names_of_figures() -> tuple[str, ...]:
    """The name of every figure: of every module of the folder that does not start with an underscore."""
    return tuple(module.name for module in pkgutil.iter_modules(figures.__path__) if not module.name.startswith("_"))


FIGURES = names_of_figures()


def make(
    names: Positional[Annotated[tuple[str, ...], arg(metavar="[NAME ...]", help_behavior_hint="(default: all)")]] = (),
    *,
    scale: Literal["tiny", "small", "paper"] = "small",
    data: Data = "digits",
    out: Annotated[Path, arg(metavar="DIR")] = Path("figures/out"),
    seed: int = 0,
    report: Annotated[Path | None, arg(metavar="PATH")] = None,
) -> int:
    """Make figures: for each NAME.pdf, NAME.png, the plotted numbers as NAME.csv, and NAME.json.

    NAME.json holds the caption, the settings, and the verdicts on the claims that the figure illustrates. gallery.md
    shows all figures of the folder. The same arguments give the same bytes on the same machine. What is computed is
    kept in the folder, under .parts: a run that was killed goes on where it was, and numbers are computed again only
    when the settings or the code that makes them have changed.

    Args:
        names: which figures.
        scale: tiny to try a change, in seconds; small for the digits, in minutes on two cores; paper for the papers'
            own sizes, on an accelerator.
        data: the digits images, or a file or folder with data of one's own.
        out: the folder that they are written to.
        seed: the seed that all random keys derive from.
        report: a verdicts.json of these data; the claims that it does not hold are verified at the quick tier.
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
    from figures._config import Config
    from figures._gallery import write_gallery
    from figures._parts import Parts
    from figures._verdicts import reported
    from sketchprune.data import has_test_set
    from theory.cli.select import dataset, reason

    samples = dataset(data)
    test = dataset(data, "test") if has_test_set(data) else None
    if report is not None:
        reported(report, samples)  # refused before any work
    failed = {}
    for name in names or FIGURES:
        started = time.perf_counter()
        parts = Parts(out / ".parts", lambda text, name=name: print(f"  {name}: {text}", flush=True))
        try:
            _make_one(name, Config(seed, scale, samples, test, report, parts), out)
        except ValueError as error:
            if len(names) == 1:
                raise
            failed[name] = reason(error)
            print(f"{name} failed: {failed[name]}", file=sys.stderr, flush=True)
        else:
            print(f"{out / name}.pdf, {time.perf_counter() - started:.1f} s", flush=True)
    write_gallery(out)
    return ExitStatus.UNEXPECTED if failed else ExitStatus.OK


def _check_name(name: str):
    """Refuse a name that is no figure's."""
    if name not in FIGURES:
        near = difflib.get_close_matches(name, FIGURES) or FIGURES
        raise ValueError(f"names holds {name!r}; it takes {' or '.join(near)}")


def _make_one(name: str, config: "Config", out: Path):
    """Compute the numbers of a figure, draw them, and write its files."""
    import jax

    from figures._files import sidecar, write
    from figures._style import stamp

    module = importlib.import_module(f"figures.{name}")
    if config.data.name != getattr(module, "DATA", config.data.name):
        raise ValueError(f"data is {config.data.name}; {name} takes {module.DATA} alone")
    # The key derives from the name, so that adding a figure changes the numbers of no other.
    key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()))
    report = "" if config.report is None else f"{zlib.crc32(config.report.read_bytes()):08x}"
    numbers = functools.partial(module.data, config, key)
    arrays = config.parts.done("numbers", numbers, (*config.identity, report))
    verdicts = [config.verdict(claim) for claim in getattr(module, "CLAIMS", ())]
    figure = module.draw(arrays)
    stamp(figure, [verdict.id for verdict in verdicts if verdict.verdict == "REFUTED"], config.data.name)
    settings = config.settings(module.SETTINGS) if hasattr(module, "SETTINGS") else None
    write(out, name, figure, arrays, sidecar(name, config, module.draw, settings, verdicts))


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        args: the words after ``python -m figures``; those of the process by default.
    """
    try:
        return tyro.cli(make, args=args, prog="python -m figures")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitStatus.USAGE
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, and the same command goes on", file=sys.stderr)
        return ExitStatus.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
