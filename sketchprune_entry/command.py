"""The ``sketchprune`` command, as pip installs it."""

import sys

from sketchprune_entry import require_theory


def main():
    """Run the command, or say which file hides it."""
    try:
        require_theory()
    except ImportError as error:
        sys.exit(f"error: {error}")
    from theory.cli import entry

    entry()
