"""What dir() shows of a public module: its own names, not what it imports for itself."""

import ast
import inspect
import sys
from collections.abc import Callable


def own_names(module: str) -> Callable[[], list[str]]:
    """A module's ``__dir__``: the public names that it defines, or hands on by ``import name as name``.

    These are the names that a type checker lets others import, PEP 484. They are read off the source when dir() is
    called, and not before.

    >>> import sketchprune.testing
    >>> own_names("sketchprune.testing")()
    ['check_law', 'check_score']
    """

    def names() -> list[str]:
        body = ast.parse(inspect.getsource(sys.modules[module])).body
        return sorted(name for node in body for name in _bound(node) if not name.startswith("_"))

    return names


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement defines or hands on."""
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Import() | ast.ImportFrom():
            return [each.name for each in node.names if each.name == each.asname]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []
