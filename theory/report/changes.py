"""What changed since the last report in a folder, before it is written over."""

from pathlib import Path

from theory.report.comparison import Comparison, Fields, compare
from theory.report.tables import VERDICTS, read_json


def changes_since(folder: Path, report: Fields) -> Comparison | str | None:
    """What changed since the report that a folder holds.

    Args:
        folder: of the report.
        report: the fields of the new verdicts.json.

    Returns:
        The comparison; why there is none, where the last report cannot be read; None where there was no report.
    """
    if not (folder / VERDICTS).exists():
        return None
    try:
        return compare(read_json(folder / VERDICTS), report)
    except ValueError as error:
        return str(error)
    except (LookupError, TypeError, AttributeError) as error:  # whatever a file that somebody else wrote may hold
        return f"file is {folder / VERDICTS}, which lacks fields of a report ({error!r})"
