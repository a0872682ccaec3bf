"""Holds deploy/grafana to what Grafana needs and to what people do, without a Grafana:

    python tests/deploy/dashboard.py

Every panel has title, description, unit, legend, the data source's variable, and a place of its own in the grid. Every
expression parses (promtool says so), reads only what pixart has, and adds up no buckets that differ. Every metric of pixart
is on the dashboard, or named here as deliberately not. The rules of deploy/prometheus are held to the same names.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

import alerts
import expressions

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy/grafana"
DASHBOARD = GRAFANA / "dashboards/pixart.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
SHORT = 40  # characters: a description that is shorter explains nothing

ROWS = ["Now", "People", "Where the time goes", "The machine", "The model"]
# Metrics that no panel shows, and why.
NOT_SHOWN = {
    "process_virtual_memory_bytes": "address space says nothing of memory: weights and libraries are mapped",
    "process_max_fds": "open files stay a hundredth of it; beside them it would flatten their line",
}
# What Prometheus has of its own.
PROMETHEUS = {"up", "ALERTS"}


@dataclass(frozen=True)
class Query:
    """One expression of the dashboard."""

    title: str
    expression: str


def load() -> dict:
    return json.loads(DASHBOARD.read_text())


def panels(dashboard: dict) -> list[dict]:
    """All panels but the rows' own lines."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: dict) -> list[Query]:
    """All expressions of all panels."""
    return [Query(panel["title"], target["expr"]) for panel in panels(dashboard) for target in panel["targets"]]


def annotations(dashboard: dict) -> list[Query]:
    """The expressions that mark moments."""
    return [Query(note["name"], note["target"]["expr"]) for note in dashboard["annotations"]["list"]]


def rules() -> list[Query]:
    """The expressions of deploy/prometheus."""
    return [Query(rule[kind], rule["expr"]) for kind in ("record", "alert") for rule in alerts.rules(kind)]


def families() -> set[str]:
    """The metrics of pixart, as the test that guards their list has them."""
    source = (ROOT / "src/telemetry/metrics.rs").read_text()
    listed = re.search(r"fn these_are_the_metrics_and_no_others\(\) \{(.*?)\n    \}", source, re.DOTALL)
    names = set(re.findall(r'"((?:pixart|process)_[a-z_]+)"', listed[1])) if listed else set()
    if len(names) < 20:
        raise RuntimeError("src/telemetry/metrics.rs has no list of the metrics where this check looks for it")
    return names


def of_the_whole(dashboard: dict) -> Iterator[str]:
    text = DASHBOARD.read_text()
    if "__inputs" in text or "${DS_" in text:
        yield "__inputs and ${DS_…} work in imports only, not in provisioned files"
    if dashboard.get("uid") != "pixart" or not dashboard.get("title") or not dashboard.get("description"):
        yield "the dashboard needs its uid 'pixart', a title and a description"
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    if rows != ROWS:
        yield f"the rows are {rows}, not {ROWS}"
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    if variables.get("datasource", {}).get("type") != "datasource" or variables["datasource"].get("query") != "prometheus":
        yield "no variable 'datasource' of type datasource for prometheus"
    if variables.get("instance", {}).get("datasource") != SOURCE or not variables["instance"].get("includeAll"):
        yield "no variable 'instance' that asks the data source and may be all"
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(ids) != len(set(ids)):
        yield "two panels have one id"
    titles = [panel["title"] for panel in panels(dashboard)]
    yield from (f"two panels are called '{title}'" for title in sorted(set(titles)) if titles.count(title) > 1)
    for note in dashboard["annotations"]["list"]:
        if note["datasource"] != SOURCE:
            yield f"annotation '{note['name']}' has another data source"


def of_the_grid(dashboard: dict) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    last = (-1, -1)
    for panel in dashboard["panels"]:
        title, place = panel["title"], panel["gridPos"]
        across = range(place["x"], place["x"] + place["w"])
        down = range(place["y"], place["y"] + place["h"])
        if not across or not down or across.start < 0 or across.stop > COLUMNS:
            yield f"'{title}' does not fit into {COLUMNS} columns"
        if (place["y"], place["x"]) <= last:
            yield f"'{title}' stands in the file after what is below it"
        last = (place["y"], place["x"])
        for cell in ((x, y) for x in across for y in down):
            if cell in taken:
                yield f"'{title}' lies over '{taken[cell]}'"
                break
            taken[cell] = title


def of_each_panel(dashboard: dict) -> Iterator[str]:
    for panel in panels(dashboard):
        title, defaults, targets = panel["title"], panel["fieldConfig"]["defaults"], panel["targets"]
        if len(panel.get("description", "")) < SHORT:
            yield f"'{title}' needs a description for who sees it for the first time"
        if not defaults.get("unit"):
            yield f"'{title}' has no unit ('none' where it counts things)"
        if panel.get("datasource") != SOURCE:
            yield f"'{title}' does not take its data from ${{datasource}}"
        if not targets or len({target["refId"] for target in targets}) != len(targets):
            yield f"'{title}' has no expression, or two with one refId"
        legends = [target.get("legendFormat", "") for target in targets]
        if not all(legends):
            yield f"'{title}' has an expression without a legend"
        for override in panel["fieldConfig"]["overrides"]:
            by, name = override["matcher"]["id"], override["matcher"]["options"]
            if by == "byName" and name not in legends and not any("{{" in legend for legend in legends):
                yield f"'{title}' dresses '{name}', which it does not show"


def of_names(dashboard: dict, known: set[str]) -> Iterator[str]:
    """Only what pixart has, and all of it."""
    recorded = {rule["record"] for rule in alerts.rules("record")}
    on_dashboard = queries(dashboard) + annotations(dashboard)
    of_rules = rules()
    shown: set[str] = set()
    for query in on_dashboard + of_rules:
        for name in expressions.metrics(query.expression) - recorded - PROMETHEUS:
            family = expressions.family(name, known)
            if family is None:
                yield f"'{query.title}' reads {name}, which pixart does not have"
            elif query in on_dashboard:
                shown.add(family)
    for name in sorted(known - shown - NOT_SHOWN.keys()):
        yield f"no panel shows {name}: use it, or say in NOT_SHOWN why not"
    yield from (f"{name} is in NOT_SHOWN, and is shown" for name in sorted(NOT_SHOWN.keys() & shown))
    yield from (f"{name} is in NOT_SHOWN, and is no metric of pixart" for name in sorted(NOT_SHOWN.keys() - known))


def of_selectors(query: Query, of_dashboard: bool) -> Iterator[str]:
    """Only pixart's own series, of the instances that were chosen."""
    chosen = expressions.selectors(query.expression)
    for name, matchers in chosen:
        if of_dashboard and name.startswith(("pixart_", "process_", "up")) and 'instance=~"$instance"' not in matchers:
            yield f"'{query.title}' does not keep {name} to $instance"
    of_pixart = {name for name, matchers in chosen if 'job="pixart"' in matchers}
    for name in expressions.metrics(query.expression) - of_pixart:
        if name == "up" or name.startswith("process_"):
            yield f"'{query.title}' takes {name} of others than pixart too"
        if of_dashboard and name.startswith("pixart_"):
            yield f"'{query.title}' takes {name} of all instances"
    if of_dashboard and "rate(" in query.expression and expressions.ranges(query.expression) != {"$__rate_interval"}:
        yield f"'{query.title}' has a rate over something else than $__rate_interval"


def of_expressions(dashboard: dict) -> Iterator[str]:
    for query in queries(dashboard) + annotations(dashboard):
        yield from of_selectors(query, of_dashboard=True)
    for query in rules():
        yield from of_selectors(query, of_dashboard=False)


def of_syntax(dashboard: dict) -> Iterator[str]:
    """promtool reads every expression as a rule."""
    variables = {"__rate_interval": "1m", "instance": ".*"}
    asked = queries(dashboard) + annotations(dashboard)
    filled_in = [expressions.filled_in(query.expression, variables) for query in asked]
    as_rules = [{"record": f"panel:{place}", "expr": expression} for place, expression in enumerate(filled_in)]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump({"groups": [{"name": "panels", "rules": as_rules}]}, file)
        file.flush()
        try:
            checked = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            yield "promtool is not here: apt-get install prometheus"
            return
    if checked.returncode:
        yield f"promtool: {checked.stderr.strip()}"


def of_provisioning() -> Iterator[str]:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())
    providers = yaml.safe_load((GRAFANA / "provisioning/dashboards/pixart.yaml").read_text())
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    for source in sources["datasources"]:
        if not {"name", "uid", "type", "url", "access"} <= source.keys():
            yield f"data source {source.get('name')} lacks one of name, uid, type, url, access"
        if source["jsonData"]["timeInterval"] != scrape:
            yield f"timeInterval is not prometheus.yml's scrape_interval, {scrape}: $__rate_interval would not fit"
    wanted = [variable for variable in load()["templating"]["list"] if variable["name"] == "datasource"]
    if not any(variable["current"]["value"] == source["uid"] for variable in wanted for source in sources["datasources"]):
        yield "the dashboard opens with a data source that is not provisioned"
    for provider in providers["providers"]:
        if provider.get("type") != "file" or not provider.get("options", {}).get("path"):
            yield f"provider {provider.get('name')} has no files"
    yield from (f"{file['apiVersion']} is no apiVersion" for file in (sources, providers) if file["apiVersion"] != 1)


def main() -> int:
    dashboard, known = load(), families()
    found = [
        *of_the_whole(dashboard), *of_the_grid(dashboard), *of_each_panel(dashboard), *of_names(dashboard, known),
        *of_expressions(dashboard), *of_syntax(dashboard), *of_provisioning(),
    ]  # fmt: skip
    print("\n".join(found), end="\n" if found else "", file=sys.stderr)
    if not found:
        print(f"{len(panels(dashboard))} panels, {len(queries(dashboard))} expressions, {len(known)} metrics, "
              f"{len(NOT_SHOWN)} of them deliberately not shown: as they should be")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
