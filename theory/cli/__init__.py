"""The ``sketchprune`` command."""

from theory.cli.app import entry as entry
from theory.cli.app import main as main
