"""No alert without its tests and its runbook: what promtool does not look at in deploy/prometheus.

    python tests/deploy/alerts.py

Each alert of rules/ has a case in tests/ in which it fires, one in which it just does not, one without data and one of an idle
service. It has a summary, a description, a severity, and a runbook_url whose anchor is a heading of docs/operations.md; and each such
heading belongs to an alert. promtool itself checks the rules and runs the cases.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
HANDBOOK = "docs/operations.md"
SEVERITIES = {"page", "ticket"}
# Tests, by their names, in which every alert keeps quiet: nothing is known but `up`; nobody asks for anything.
ALL_QUIET = ("no data", "idle")


def rules(kind: str) -> list[dict]:
    """All rules of a kind, `alert` or `record`, in the order of their files."""
    documents = [yaml.safe_load(path.read_text()) for path in sorted(PROMETHEUS.glob("rules/*.yml"))]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"] if kind in rule]


def cases() -> dict[str, set[str]]:
    """The alerts that each kind of case tests: `fires`, `quiet` and each of ALL_QUIET."""
    tested: dict[str, set[str]] = {kind: set() for kind in ("fires", "quiet", *ALL_QUIET)}
    for path in sorted(PROMETHEUS.glob("tests/*.yml")):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test.get("alert_rule_test", []):
                kind = "fires" if case.get("exp_alerts") else test["name"] if test["name"] in ALL_QUIET else "quiet"
                tested[kind].add(case["alertname"])
            for case in test.get("promql_expr_test", []):
                for sample in case.get("exp_samples", []):
                    tested["fires"] |= set(re.findall(r'ALERTS\{alertname="(\w+)", alertstate="firing"', sample["labels"]))
    return tested


def complaints(alerts: list[dict], tested: dict[str, set[str]], handbook: str) -> list[str]:
    """What is missing, in words."""
    names = [alert["alert"] for alert in alerts]
    found = [f"{name}: there are two alerts of this name" for name in sorted(set(names)) if names.count(name) > 1]
    for kind, tests in tested.items():
        found += [f"{name}: no case in which it is tested for '{kind}'" for name in names if name not in tests]
        found += [f"{name}: tested for '{kind}', but there is no such alert" for name in sorted(tests.difference(names))]
    sections = re.findall(r"^### (Pixart\S+)$", handbook, re.MULTILINE)
    found += [f"{HANDBOOK}: section {section} belongs to no alert" for section in sections if section not in names]
    for alert in alerts:
        name, notes = alert["alert"], alert.get("annotations", {})
        found += [f"{name}: no {key}" for key in ("summary", "description") if not notes.get(key)]
        if alert.get("labels", {}).get("severity") not in SEVERITIES:
            found.append(f"{name}: severity is one of {', '.join(sorted(SEVERITIES))}")
        if notes.get("runbook_url") != f"{HANDBOOK}#{name.lower()}":
            found.append(f"{name}: its runbook_url is {HANDBOOK}#{name.lower()}")
        if name not in sections:
            found.append(f"{name}: {HANDBOOK} has no section '### {name}'")
    return found


def main() -> int:
    alerts = rules("alert")
    if not alerts:
        print(f"no alerts in {PROMETHEUS / 'rules'}", file=sys.stderr)
        return 1
    found = complaints(alerts, cases(), (ROOT / HANDBOOK).read_text())
    print("\n".join(found), end="\n" if found else "", file=sys.stderr)
    if not found:
        print(f"{len(alerts)} alerts: each has its cases (fires, quiet, no data, idle) and its section of {HANDBOOK}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
