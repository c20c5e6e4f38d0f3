#!/usr/bin/env python3
"""Checks that docs/metrics-and-logs.md, docs/grafana.json and docs/alerts.yaml name the metrics that the code has.

The code is the measure: what it passes to `counter!`, `gauge!` and `histogram!`, with the labels' names. The page must have
each of them, with its kind and its labels, and no other. The dashboard must show each of them. Each query must be
valid PromQL that asks for a metric, a label and a label's value that exist. No Prometheus and no Grafana runs here.

Usage: numbers.py [--self-test], from the root of the workspace, with promql-parser and ruamel.yaml
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import promql_parser
from ruamel.yaml import YAML

PAGE = Path("docs/metrics-and-logs.md")
DASHBOARD = Path("docs/grafana.json")
ALERTS = Path("docs/alerts.yaml")
# What Prometheus itself adds.
TARGET = {"job", "instance"}
# What an exporter makes of a histogram.
PARTS = ("_bucket", "_sum", "_count")
SEVERITIES = {"info", "warning", "critical"}


@dataclass(frozen=True)
class Metric:
    kind: str
    labels: frozenset


def arguments(text, start):
    """What stands between the parenthesis before `start` and its partner."""
    depth, at, quoted = 1, start, False
    while depth:
        letter = text[at]
        if letter == '"' and text[at - 1] != "\\":
            quoted = not quoted
        elif not quoted:
            depth += {"(": 1, ")": -1}.get(letter, 0)
        at += 1
    return text[start : at - 1]


def declared(sources):
    """The metrics of the code, by name."""
    metrics = {}
    for text in sources:
        for found in re.finditer(r"\b(counter|gauge|histogram)!\(", text):
            inside = arguments(text, found.end())
            name = re.match(r'\s*"([a-z_]+)"', inside)
            if not name:
                raise SystemExit(f"a metric without a name: {inside[:60]}")
            metric = Metric(found[1], frozenset(re.findall(r'"([a-z_]+)"\s*=>', inside)))
            if metrics.setdefault(name[1], metric) != metric:
                raise SystemExit(f"{name[1]} has two kinds or two sets of labels")
    return metrics


def on_page(text):
    """The rows of the page's tables: names, the kind's column, the labels' column."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        names = re.findall(r"`(session_resume_[a-z_]+)`", cells[0])
        if line.startswith("|") and names and len(cells) == 3:
            yield names, cells[1], cells[2]


def faults_of_page(metrics, text):
    told = set()
    for names, kind, labels in on_page(text):
        for name in names:
            metric = metrics.get(name)
            if metric is None:
                yield f"{PAGE}: {name} is not in the code"
                continue
            told.add(name)
            if not kind.startswith(metric.kind):
                yield f"{PAGE}: {name} is a {metric.kind}, not a {kind}"
            for label in metric.labels:
                if f"`{label}`" not in labels:
                    yield f"{PAGE}: {name} has the label {label}, too"
    for name in sorted(metrics.keys() - told):
        yield f"{PAGE}: {name} is missing"


def selectors(expression):
    """All vector selectors of a parsed query, and the labels that it groups by, by the selectors below."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression, frozenset()
        return
    below = []
    for name in ("expr", "lhs", "rhs", "vs", "vector_selector"):
        part = getattr(expression, name, None)
        if part is not None:
            below.append(part)
    below.extend(getattr(expression, "args", None) or [])
    modifier = getattr(expression, "modifier", None)
    grouped = frozenset(getattr(modifier, "labels", None) or [])
    for part in below:
        for selector, groups in selectors(part):
            yield selector, groups | grouped


def faults_of_query(metrics, words, query):
    """What is wrong with one query, and which metrics it asks for."""
    asked = set()
    # What Grafana fills in before Prometheus sees the query.
    query = query.replace("$__rate_interval", "5m")
    try:
        parsed = promql_parser.parse(query)
    except ValueError as error:
        return [f"no PromQL: {error}"], asked
    faults = []
    found = list(selectors(parsed))
    if not found:
        faults.append("asks for nothing")
    for selector, groups in found:
        name = selector.name
        part = next((part for part in PARTS if name.endswith(part) and name[: -len(part)] in metrics), "")
        metric = metrics.get(name[: len(name) - len(part)])
        if metric is None:
            faults.append(f"{name} is not in the code")
            continue
        asked.add(name[: len(name) - len(part)])
        if (metric.kind == "histogram") != bool(part):
            faults.append(f"{name}: a {metric.kind} has {'its parts alone' if not part else 'no such part'}")
        known = metric.labels | TARGET | ({"le"} if part == "_bucket" else set())
        for label in sorted(groups - known):
            faults.append(f"{name} has no label {label}")
        for matcher in selector.matchers.matchers:
            if matcher.name not in known:
                faults.append(f"{name} has no label {matcher.name}")
            elif matcher.name not in TARGET:
                for value in matcher.value.split("|"):
                    if value not in words:
                        faults.append(f"{name}: no {matcher.name} is {value}")
    return faults, asked


def faults_of_dashboard(metrics, words, dashboard):
    shown, places = set(), []
    for panel in dashboard["panels"]:
        box = panel["gridPos"]
        places.append((panel["title"], box["x"], box["y"], box["w"], box["h"]))
        if panel["type"] == "row":
            continue
        for target in panel["targets"]:
            faults, asked = faults_of_query(metrics, words, target["expr"])
            shown |= asked
            for fault in faults:
                yield f"{DASHBOARD}, {panel['title']}: {fault}"
            names = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            for label in sorted(names - TARGET - set().union(*(metrics[name].labels for name in asked))):
                yield f"{DASHBOARD}, {panel['title']}: the legend has no {label}"
    for at, (one, x, y, w, h) in enumerate(places):
        if x + w > 24:
            yield f"{DASHBOARD}: {one} is outside of the page"
        for other, x2, y2, w2, h2 in places[:at]:
            if x < x2 + w2 and x2 < x + w and y < y2 + h2 and y2 < y + h:
                yield f"{DASHBOARD}: {one} covers {other}"
    for name in sorted(metrics.keys() - shown):
        yield f"{DASHBOARD}: {name} is not shown"


def faults_of_alerts(metrics, words, document):
    seen = set()
    for group in document["groups"]:
        for rule in group["rules"]:
            name = rule["alert"]
            if name in seen:
                yield f"{ALERTS}: {name} is there twice"
            seen.add(name)
            for fault in faults_of_query(metrics, words, rule["expr"])[0]:
                yield f"{ALERTS}, {name}: {fault}"
            if rule.get("labels", {}).get("severity") not in SEVERITIES:
                yield f"{ALERTS}, {name}: no severity of {sorted(SEVERITIES)}"
            if not rule.get("annotations", {}).get("summary"):
                yield f"{ALERTS}, {name}: no summary"
            if "for" in rule and not re.fullmatch(r"\d+[smh]", rule["for"]):
                yield f"{ALERTS}, {name}: for is no time: {rule['for']}"


def self_test():
    source = """counter!("session_resume_a_total", "why" => if x { "lost (late)" } else { "gone" }).increment(1);
        histogram!("session_resume_b_seconds").record(took); gauge!("session_resume_c", "phase" => "on").set(1.0);"""
    metrics = declared([source])
    words = {"lost", "gone", "on"}
    assert metrics["session_resume_a_total"] == Metric("counter", frozenset({"why"})), metrics
    good = [
        'sum by (why, job) (rate(session_resume_a_total{why=~"gone|lost"}[$__rate_interval])) > 0',
        "histogram_quantile(0.99, sum by (le) (rate(session_resume_b_seconds_bucket[5m])))",
        'session_resume_c{phase="on"} / session_resume_c',
    ]
    for query in good:
        assert not faults_of_query(metrics, words, query)[0], faults_of_query(metrics, words, query)
    bad = [
        "rate(session_resume_other_total[5m])",
        "rate(session_resume_b_seconds[5m])",
        "rate(session_resume_a_total_bucket[5m])",
        'session_resume_c{colour="on"}',
        'session_resume_c{phase="off"}',
        "1 / sum by (le) (session_resume_c)",
        "session_resume_c / on (why) session_resume_a_total{why='gone'} +",
        "1 + 1",
    ]
    for query in bad:
        assert faults_of_query(metrics, words, query)[0], query
    page = "| `session_resume_a_total` | counter | `why` |\n| `session_resume_b_seconds` | histogram | |\n"
    assert list(faults_of_page(metrics, page)) == [f"{PAGE}: session_resume_c is missing"]
    wrong = page + "| `session_resume_c`, `session_resume_d` | counter | |\n"
    assert len(list(faults_of_page(metrics, wrong))) == 3, list(faults_of_page(metrics, wrong))


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    sources = [path.read_text() for folder in ("core", "adapters") for path in Path(folder).glob("*/src/**/*.rs")]
    metrics = declared(sources)
    words = {word for text in sources for word in re.findall(r'"([a-z_]+)"', text)}
    faults = [
        *faults_of_page(metrics, PAGE.read_text()),
        *faults_of_dashboard(metrics, words, json.loads(DASHBOARD.read_text())),
        *faults_of_alerts(metrics, words, YAML(typ="safe").load(ALERTS.read_text())),
    ]
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        raise SystemExit(1)
    print(f"{len(metrics)} metrics: all on the page, all shown, and no query asks for another")


main()
