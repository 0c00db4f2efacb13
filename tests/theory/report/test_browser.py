"""The page as a reader has it, in headless Chromium: plots, filters, sorting, keys, a phone's width, print."""

import json

import pytest

from tests.support.browser import CHROMIUM, Browser
from tests.support.catalogue_report import DISAGREES, SURVIVED, UNDECIDED, WRONG, catalogue_report
from theory.report.html import OBSERVED, as_html

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium, such as that of Debian's package")

REPORT = catalogue_report()
VERDICTS = {verdict.id: verdict for _, verdict in REPORT.verdicts}
CLAIMS = {item.claim.id: item.claim for item, _ in REPORT.verdicts}
SHOWN = (
    "[...document.querySelectorAll('.claim')].filter(claim => claim.checkVisibility()).map(claim => claim.dataset.id)"
)
OPEN_ALL = "document.querySelectorAll('details').forEach(each => each.open = true)"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(as_html(REPORT), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started, page):
    """The page, newly opened; whatever it does, it asks for nothing else and writes nothing to the console."""
    started.send("Emulation.setEmulatedMedia", media="", features=[])
    started.resize(1280)
    started.messages.clear()
    started.requests.clear()
    started.open(page)
    yield started
    assert started.messages == []
    assert {address.partition("#")[0] for address in started.requests} == {page.as_uri()}


def choose(browser, **fields):
    """Set fields of the form as somebody does who chooses there, and return the claims that are shown."""
    for name, value in fields.items():
        field = f"document.getElementById('controls').elements[{json.dumps(name)}]"
        browser.value(f"{field}.value = {json.dumps(value)}")
        assert browser.value(f"{field}.value") == value
        browser.value(f"{field}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    return browser.value(SHOWN)


def ids(condition):
    return {id for id in VERDICTS if condition(CLAIMS[id], VERDICTS[id])}


def test_formulas_and_plots_are_there(browser):
    browser.value(OPEN_ALL)
    claims = "[...document.querySelectorAll('.claim')]"
    height = "getBoundingClientRect().height"
    for selector in ("math", "summary"):
        heights = browser.value(f"{claims}.map(claim => claim.querySelector('{selector}').{height})")
        assert len(heights) == len(VERDICTS) and min(heights) > 10
    plots = browser.value(
        f"Object.fromEntries({claims}.map(c => [c.dataset.id, [...c.querySelectorAll('.plot')].map(p => p.{height})]))"
    )
    drawn = ids(lambda claim, verdict: claim.kind.axis(verdict) is not None)
    assert {id for id, heights in plots.items() if heights} >= drawn and len(drawn) > 80
    assert min(min(heights) for heights in plots.values() if heights) > 50
    assert browser.value("document.querySelectorAll('.heat').length") >= 4 * len(ids(lambda c, v: v.counterexample))


def test_what_is_unexpected_is_open(browser):
    opened = browser.value("[...document.querySelectorAll('.claim[open]')].map(claim => claim.dataset.id)")
    assert set(opened) == {WRONG, UNDECIDED, SURVIVED}


@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        ({"family": "paths"}, lambda claim, verdict: claim.family == "paths"),
        ({"kind": "rate"}, lambda claim, verdict: verdict.kind == "rate"),
        ({"verdict": "REFUTED"}, lambda claim, verdict: verdict.verdict == "REFUTED" and verdict.expected),
        ({"verdict": OBSERVED["REFUTED"]}, lambda claim, verdict: verdict.id == DISAGREES),
        ({"verdict": "not as expected"}, lambda claim, verdict: verdict.id in (WRONG, UNDECIDED, SURVIVED)),
        ({"text": " Top-K  mask"}, lambda claim, verdict: claim.id == "sketch/top-k"),
        ({"text": "lueker"}, lambda claim, verdict: any("lueker" in source.key for source in claim.sources)),
        ({"family": "sketch", "kind": "effect"}, lambda claim, v: (claim.family, v.kind) == ("sketch", "effect")),
        ({"text": "no claim says this"}, lambda claim, verdict: False),
    ],
)  # fmt: skip
def test_filters(browser, fields, condition):
    shown = choose(browser, **fields)
    assert set(shown) == ids(condition)
    said = browser.value("document.querySelector('#controls output').textContent")
    assert said == f"{len(shown)} of {len(VERDICTS)} claims shown"
    headings = browser.value(
        "[...document.querySelectorAll('h2, h3')].filter(h => h.checkVisibility()).map(h => h.textContent)"
    )
    theorems = {CLAIMS[id].family for id in shown if VERDICTS[id].expected}
    assert theorems == set(headings) & {claim.family for claim in CLAIMS.values()}
    assert ("Observations" in headings) == any(VERDICTS[id].expected is None for id in shown)
    assert len(choose(browser, **dict.fromkeys(fields, ""))) == len(VERDICTS)


def test_sorting(browser):
    order = list(VERDICTS)
    theorems = [id for id in order if VERDICTS[id].expected]
    observations = [id for id in order if not VERDICTS[id].expected]
    assert browser.value(SHOWN) == theorems + observations
    keys = {
        "id": lambda id: id,
        "looseness": lambda id: -(VERDICTS[id].looseness if VERDICTS[id].looseness > 0 else 0),
        "seconds": lambda id: -VERDICTS[id].elapsed_s,
    }
    for name, key in keys.items():
        assert choose(browser, order=name) == sorted(theorems, key=key) + sorted(observations, key=key)
    first = choose(browser, order="rank")[:5]
    assert set(first[:3]) == {WRONG, UNDECIDED, SURVIVED} and VERDICTS[first[3]].verdict == "REFUTED"
    assert choose(browser, order="") == theorems + observations


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(browser, width):
    browser.resize(width)
    browser.value(OPEN_ALL)
    widths = browser.value("[innerWidth, document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert widths == [width] * 3
    cut = browser.value(
        "[...document.querySelectorAll('.plot text, .plot .box, .heat, .badge, .controls input, .controls select')]"
        ".map(each => [each.getBoundingClientRect(), each.textContent])"
        ".filter(([box]) => box.left < -1 || box.right > innerWidth + 1).map(([_, text]) => text)"
    )
    assert cut == []


def test_by_keyboard(browser):
    """The first stop after the link is the search; keys type there, and open a claim."""
    for _ in range(2):
        browser.press("Tab")
    assert browser.value("document.activeElement.name") == "text"
    for letter in "top-k":
        browser.press(letter, letter)
    assert browser.value(SHOWN) == ["sketch/top-k"]
    while browser.value("document.activeElement.tagName") != "SUMMARY":
        browser.press("Tab")
    assert not browser.value("document.activeElement.parentElement.open")
    browser.press("Enter", "\r")
    assert browser.value("document.activeElement.parentElement.open")
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_link_to_a_claim_unfolds_it(browser, page):
    browser.open(page, "#lottery/perturbation")
    opened = "document.getElementById('lottery/perturbation').closest('details').open"
    assert browser.value(opened)
    choose(browser, family="paths")
    # The browser itself would unfold what a link leads to; others leave that to the page.
    browser.value("history.replaceState(null, '', '#sketch/top-k'); dispatchEvent(new Event('hashchange'))")
    assert browser.value("document.getElementById('sketch/top-k').checkVisibility()")


def test_without_scripts_everything_is_shown(browser, page):
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    assert browser.value(SHOWN) and len(browser.value(SHOWN)) == len(VERDICTS)
    assert not browser.value("document.getElementById('controls').checkVisibility()")
    browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_print_shows_what_is_folded(browser):
    folded = "document.querySelector('.claim:not([open]) .statement').checkVisibility()"
    assert not browser.value(folded)
    browser.resize(716)  # A4 with Chromium's margins
    browser.send("Emulation.setEmulatedMedia", media="print")
    assert browser.value("document.documentElement.scrollWidth") == 716
    assert browser.value(folded)
    assert not browser.value("document.getElementById('controls').checkVisibility()")


def test_dark_is_dark(browser):
    places = {"body": ("backgroundColor", "color"), ".plot text": ("fill",), ".heat .plus": ("fill",)}
    colours = []
    for scheme in ("light", "dark"):
        browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        colours.append(
            [
                browser.value(f"getComputedStyle(document.querySelector('{selector}')).{name}")
                for selector, names in places.items()
                for name in names
            ]
        )
    assert all(light != dark for light, dark in zip(*colours, strict=True))
