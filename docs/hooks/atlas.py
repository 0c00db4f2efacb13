"""The atlas: a page for each claim of the catalogue, and indexes of them.

Pages are made from the catalogue and from ``docs/verdicts.json``, the report of a run over the whole catalogue. The
address of a claim's page follows from its id, which is permanent: ``atlas/sketch/top-k.html``.
"""

import json
from collections.abc import Iterable
from importlib import resources
from itertools import groupby
from pathlib import Path

import claim_page
import symbols
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from theory.catalogue import CATALOGUE
from theory.claim import Claim
from theory.kinds import KINDS
from theory.report.formats import number
from theory.report.references import citation, references, title
from theory.verdict import Verdict

REPORT = Path(__file__).parents[1] / "verdicts.json"

PAPERS = {
    "bar2023sketching": "A mask on a linear model is a sketch of a matrix product. The paper bounds the error of a "
    "mask at initialisation, carries the bound over to the trained weights, explains masks that are made without data, "
    "and argues for drawing masks in proportion to scores. Its claims are in the families `sketch/` and `tangent/`.",
    "gebhart2021paths": "The value of a path is the product of its weights. The tangent kernel splits into a part that "
    "knows the data and the path kernel, which does not; SNIP, GraSP and SynFlow are sums over paths. Its claims are "
    "in the family `paths/`.",
    "gadhikar2023random": "Random masks at well chosen layer densities contain what training needs. The paper asks how "
    "wide a random network must be to contain a target, and trains inside random masks. Its claims are in the family "
    "`lottery/`.",
}
"""The three papers that the catalogue is about -> what they state."""
FAMILIES = {
    "sketch": "Masks of linear models are sketches.",
    "tangent": "Masks of a network sketch its tangent kernel.",
    "paths": "The path kernel, path sums and what pruning does to a function.",
    "lottery": "What random masks contain.",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the claims into the navigation, family by family."""
    (atlas,) = (pages for entry in config.nav or [] for title, pages in entry.items() if title == "Atlas")
    atlas += [{family: [f"atlas/{claim.id}.md" for claim in claims]} for family, claims in _families()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    verdicts = {fields["id"]: _verdict(fields) for fields in report["claims"]}
    missing = [claim.id for claim in CATALOGUE if claim.id not in verdicts]
    if missing:
        raise ValueError(f"docs/verdicts.json has no verdict on {', '.join(missing)}; it takes a report on all claims")
    pages = {
        "index": _overview(verdicts, report),
        "papers": _by_paper(verdicts),
        "kinds": _by_kind(verdicts),
        "symbols": _by_symbol(verdicts),
    } | {claim.id: claim_page.page(claim, verdicts[claim.id], report) for claim in CATALOGUE}
    for name, text in pages.items():
        files.append(File.generated(config, f"atlas/{name}.md", content=text))
    style = resources.files("theory.report").joinpath("templates", "plots.css").read_text(encoding="utf-8")
    files.append(File.generated(config, "plots.css", content=style))
    return files


def _verdict(fields: dict) -> Verdict:
    return Verdict.from_json({name: value for name, value in fields.items() if name != "command"})


def _families() -> list[tuple[str, list[Claim]]]:
    return [(family, list(claims)) for family, claims in groupby(CATALOGUE, lambda claim: claim.family)]


def _overview(verdicts: dict[str, Verdict], report: dict) -> str:
    theorems = sum(claim.expected is not None for claim in CATALOGUE)
    known_false = sum(claim.expected == "REFUTED" for claim in CATALOGUE)
    words = [
        "# Atlas",
        f"{theorems} statements about pruning at initialisation, each with its formula, its sources, where it was "
        f"tested and what came out, and {len(CATALOGUE) - theorems} observations about training. {known_false} of the "
        "statements are known to be false: tempting strengthenings, shown with their smallest counterexamples.",
        claim_page.provenance(report),
        "A page keeps its address as long as the statement is in the catalogue. [By paper](papers.md), "
        "[by kind](kinds.md), [by symbol](symbols.md). What SUPPORTED and the other words mean is "
        "[one page](../words.md), and how they are decided [another](../decisions.md).",
    ]
    for family, claims in _families():
        words += [f"## {family}", FAMILIES[family], _table(claims, verdicts)]
    return "\n\n".join(words) + "\n"


def _by_paper(verdicts: dict[str, Verdict]) -> str:
    words = ["# By paper", "What each paper states, and where it stands here. *Derived* means that the paper announces "
             "a result whose formula was worked out here."]  # fmt: skip
    for key in [*PAPERS, *(key for key in references() if key not in PAPERS)]:
        claims = [claim for claim in CATALOGUE if any(source.key == key for source in claim.sources)]
        if claims:
            words += [f"## {title(key)}", f"{citation(key)} Key: `{key}`.", PAPERS.get(key, "")]
            words.append(_table(claims, verdicts, key))
    return "\n\n".join(filter(None, words)) + "\n"


def _by_kind(verdicts: dict[str, Verdict]) -> str:
    words = ["# By kind", "What a statement says of its two sides, and how it is measured."]
    for kind in KINDS:
        claims = [claim for claim in CATALOGUE if claim.kind.words == kind.words]
        words += [f"## {kind.words.name}", f"{kind.words.meaning}", _table(claims, verdicts)]
    return "\n\n".join(words) + "\n"


def _by_symbol(verdicts: dict[str, Verdict]) -> str:
    words = ["# By symbol", "Where a symbol occurs in a statement. The [notation](../notation.md) says what code "
             "computes it."]  # fmt: skip
    for symbol in symbols.SYMBOLS:
        claims = [claim for claim in CATALOGUE if symbol.occurs_in(claim.statement)]
        words += [f"## {symbol.name}", symbol.meaning, _table(claims, verdicts)]
    return "\n\n".join(words) + "\n"


def _table(claims: Iterable[Claim], verdicts: dict[str, Verdict], paper: str = "") -> str:
    """Claims with their verdicts, and with what a paper has to do with them."""
    rows = ["| claim | says | verdict | looseness |", "|---|---|---|---|"]
    if paper:
        rows = ["| claim | says | in the paper | verdict | looseness |", "|---|---|---|---|---|"]
    for claim in claims:
        verdict = verdicts[claim.id]
        status = [f"| {_status(claim, paper)} " if paper else ""]
        rows.append(
            f"| [{claim.id}]({claim.id}.md) | {claim_page.cell(claim.title)} {status[0]}"
            f"| {claim_page.badge(verdict)} | {number(verdict.looseness)} |"
        )
    return "\n".join(rows)


def _status(claim: Claim, paper: str) -> str:
    (source,) = (source for source in claim.sources if source.key == paper)
    words = {"stated": "stated", "derived": "derived", "known-false": "known to be false"}[source.status]
    return f"{words}, {source.locus}" if source.locus else words
