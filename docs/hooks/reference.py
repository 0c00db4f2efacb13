"""The reference: a page for each public module, with everything that it hands on."""

import importlib
import pkgutil

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import sketchprune
import theory

MODULES = (
    *(f"sketchprune.{name}" for name in sketchprune.__all__),
    "sketchprune.kernels.linearised",
    "sketchprune.kernels.infinite",
    "sketchprune.search.subsets",
    "sketchprune.search.problems",
    "sketchprune.sweep",
    "theory",
    "theory.testing",
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation."""
    (reference,) = (pages for entry in config.nav or [] for title, pages in entry.items() if title == "Reference")
    reference += [{module: f"reference/{module}.md"} for module in sorted(set(MODULES))]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each module, and the list of them."""
    modules = {name: importlib.import_module(name) for name in sorted(set(MODULES))}
    rows = ["# Reference", "Every public function, by module. Shapes are written as "
            "[jaxtyping](https://docs.kidger.site/jaxtyping/) writes them: `Float[Array, \"n d\"]` is a floating array "
            "of n rows and d columns.", "| module | |\n|---|---|"]  # fmt: skip
    lines = [f"| [{name}]({name}.md) | {(module.__doc__ or '').splitlines()[0]} |" for name, module in modules.items()]
    rows[-1] = "\n".join([rows[-1], *lines])
    files.append(File.generated(config, "reference/index.md", content="\n\n".join(rows) + "\n"))
    for name, module in modules.items():
        text = [f"# {name}", module.__doc__ or ""]
        text += [f"::: {_home(module, member)}.{member}" for member in _public(module)]
        files.append(File.generated(config, f"reference/{name}.md", content="\n\n".join(text) + "\n"))
    return files


def _home(module, member: str) -> str:
    """The module in which the reference looks for a member: `theory` loads its own from elsewhere on first use."""
    if module is not theory:
        return module.__name__
    return getattr(getattr(module, member), "__module__", theory._HOME.get(member, ""))


def _public(module) -> list[str]:
    """Names of a module's own functions, classes and constants."""
    submodules = {info.name for info in pkgutil.iter_modules(getattr(module, "__path__", []))}
    return [name for name in dir(module) if name[0] != "_" and name not in submodules]
