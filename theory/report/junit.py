"""The verdicts as a JUnit report, which GitLab, Jenkins and other servers show: one test case for each claim.

A claim fails where ``verify`` would not return 0: its verdict is not the expected one, or a mutant is not refuted. One
that could not be verified is an error. Elements and attributes are those of Jenkins' ``junit-10.xsd``.
"""

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from theory.report.remarks import explanation, remarks, summary
from theory.report.run import Report, Run, Selected
from theory.verdict import Verdict

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML file may hold."""


def as_junit(report: Report) -> str:
    """A suite for each family, a case for each claim, with its seconds, what was wrong, and how to replay it.

    Args:
        report: a run and its verdicts.
    """
    root = Element("testsuites", name="sketchprune")
    suites: dict[str, Element] = {}

    def suite(argument: str) -> Element:
        """The suite of a claim's family; it is made where it is new."""
        family = argument.rpartition("::")[2].partition("/")[0]
        if family not in suites:
            suites[family] = SubElement(root, "testsuite", name=family)
            suites[family].append(_settings(report.run))
        return suites[family]

    for item, verdict in report.verdicts:
        suite(item.argument).append(_case(report.run, item, verdict))
    for argument, reason in report.failed.items():
        case = SubElement(suite(argument), "testcase", name=_plain(argument), classname=_class(argument))
        SubElement(case, "error", type="error", message=_plain(reason))
    for each in (*suites.values(), root):
        _count(each)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(run: Run, item: Selected, verdict: Verdict) -> Element:
    """The test case of a claim that was verified."""
    case = Element("testcase", name=_plain(item.argument), classname=_class(item.argument))
    case.set("time", f"{verdict.elapsed_s:.3f}")
    if not verdict.as_expected:
        failure = SubElement(case, "failure", type=str(verdict.verdict), message=_plain(summary(verdict)))
        failure.text = _plain(explanation(item, verdict, run.command(item.argument)))
    elif found := "\n".join(remarks(verdict)):
        SubElement(case, "system-out").text = _plain(found)
    return case


def _settings(run: Run) -> Element:
    """What the verdicts depend on."""
    properties = Element("properties")
    settings = {"seed": run.seed, "tier": run.tier, "data": run.data, "shard": run.shard, **run.versions}
    for name, value in settings.items():
        SubElement(properties, "property", name=name, value=_plain(str(value)))
    return properties


def _count(suite: Element):
    """Give a suite, or all of them together, the numbers of its cases and their seconds."""
    cases = list(suite.iter("testcase"))
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", str(sum(case.find("error") is not None for case in cases)))
    suite.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def _class(argument: str) -> str:
    """What servers group cases by: the family of a claim, within its file if it has one."""
    file, _, id = argument.rpartition("::")
    return _plain(".".join(filter(None, [file.removesuffix(".py").replace("/", "."), id.partition("/")[0]])))


def _plain(text: str) -> str:
    """The text, with question marks for characters that no XML file may hold."""
    return _NO_XML.sub("?", text)
