"""What pip's ``sketchprune`` command and pytest start: a package apart, since a user may have a ``theory`` too."""

import importlib.util
import os
from pathlib import Path


def require_theory():
    """Refuse to go on where another module or package called ``theory`` hides the one of this project.

    Python finds a file ``theory.py``, or a folder ``theory`` with an ``__init__.py``, beside the script that is started
    or in the current folder, before it finds what is installed.

    Raises:
        ImportError: it names the file that hides the package.
    """
    ours = Path(__file__).resolve().parents[1] / "theory" / "__init__.py"
    try:
        spec = importlib.util.find_spec("theory")
    except ValueError:  # a module that was made without a file
        spec = None
    found = None if spec is None else spec.origin
    if found is None or os.path.realpath(found) != str(ours):
        raise ImportError(
            f"theory is {found}, which hides the package theory of sketchprune ({ours.parent}); "
            "it takes a file of another name, or another folder to start from"
        )
