"""``python -m theory`` is the ``sketchprune`` command."""

from theory.cli import entry

if __name__ == "__main__":
    entry()
