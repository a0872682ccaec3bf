"""Every panel and every alert has something to look at: the real service, a short load, Debian's real Prometheus.

    python tests/deploy/observe.py --pixart target/release/pixart

Starts `pixart serve` with the embedded model and a short queue, and Prometheus with the project's own configuration and rules.
Makes what people make: pictures, a repeated prompt, a rush, mistakes, callers who leave. Then each expression of the dashboard
and each operand of each alert is asked for; one that has no series, or a panel without a single number, is a failure. At last the
service is stopped, and PixartDown has to notice. Prints what each panel would show.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import sys
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import alerts
import dashboard
import expressions
from prometheus import Prometheus

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/clients"))
from service import Service  # noqa: E402

CAPACITY = 2
RUSH = CAPACITY + 4  # at once: one is drawn, some wait, at least one is refused
ROUNDS = 3
PAUSE_SECONDS = 2  # between rounds, so that several scrapes see the numbers rise
VARIABLES = {"__rate_interval": "1m", "instance": ".*"}
# What the load must have caused, or panels are empty for want of events and not for want of an expression.
CAUSED = [
    *(f'pixart_requests_total{{outcome="{outcome}"}}' for outcome in ("ok", "invalid", "too_large", "queue_full", "cancelled")),
    *(f'pixart_jobs_finished_total{{outcome="{outcome}"}}' for outcome in ("succeeded", "cancelled")),
    *("pixart_prompt_cache_hits_total", "pixart_prompt_cache_misses_total", "pixart_steps_saved_by_cancel_total"),
    "pixart_queue_wait_seconds_count",
]
SCRAPE_SECONDS = 60
NOTICE_SECONDS = 20


def ask(service: Service, body: dict[str, object]) -> int:
    """The status of a request for a picture."""
    try:
        service.post("/v1/images", body)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


def leave(service: Service) -> None:
    """Asks for a slow picture and goes away while it is drawn."""
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=30)
    body = {"prompt": "a slow picture", "size": "512x512", "scheduler": "lcm", "steps": 50}
    connection.request("POST", "/v1/images", json.dumps(body), {"Content-Type": "application/json"})
    give_up = time.monotonic() + 30
    while service.metric("pixart_requests_running") == 0 and time.monotonic() < give_up:
        time.sleep(0.02)
    connection.close()


def load(service: Service) -> None:
    """Some of everything."""
    for number in range(ROUNDS):
        for seed in (1, 2):
            ask(service, {"prompt": f"a green star in the night sky, {number}", "seed": seed})
        with ThreadPoolExecutor(RUSH) as callers:
            rush = [{"prompt": "a white sailboat", "seed": seed, "steps": 8} for seed in range(RUSH)]
            list(callers.map(lambda body: ask(service, body), rush))
        ask(service, {"prompt": "a cat", "steps": "many"})
        ask(service, {"prompt": "a cat", "n": 10, "size": "2048x2048", "steps": 50})
        leave(service)
        time.sleep(PAUSE_SECONDS)
    missing = [series for series in CAUSED if service.metric(series) == 0]
    if missing:
        raise SystemExit(f"the load has not caused {', '.join(missing)}: it cannot show whether the panels work")


def wait_for_scrapes(prometheus: Prometheus) -> None:
    """Until three more scrapes of the service have come in, and the rules have seen them."""
    scrapes = 'count_over_time(up{job="pixart"}[10m])'
    before, give_up = sum(prometheus.values(scrapes)), time.monotonic() + SCRAPE_SECONDS
    while sum(prometheus.values(scrapes)) < before + 3:
        if time.monotonic() > give_up:
            raise SystemExit("Prometheus does not scrape the service")
        time.sleep(0.3)


def hold_metrics(service: Service) -> None:
    """The binary has the metrics that its source names, and no others."""
    told = {line.split()[2] for line in service.get("/metrics").decode().splitlines() if line.startswith("# TYPE")}
    known = dashboard.families()
    if missing := known - told:
        raise SystemExit(f"/metrics lacks {', '.join(sorted(missing))}, which src/telemetry/metrics.rs names")
    if unknown := told - known:
        raise SystemExit(f"/metrics has {', '.join(sorted(unknown))}, which src/telemetry/metrics.rs does not name")


class Table:
    """Prints what each expression gives, and keeps what has failed."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.prometheus = prometheus
        self.failed: list[str] = []

    def row(self, title: str, expression: str, needs_a_number: bool) -> None:
        asked = expressions.filled_in(expression, VARIABLES)
        values = self.prometheus.values(asked)
        note = ""
        if not values and (unfiltered := expressions.without_filters(asked)) != asked:
            values, note = self.prometheus.values(unfiltered), " (nothing passes its filter now)"
        numbers = [value for value in values if math.isfinite(value)]
        shown = f"{max(numbers):.6g}" if numbers else str(max(values, default="nothing"))
        print(f"{title[:34]:34} {len(values):3} {shown:>12}{note}")
        if not values or (needs_a_number and not numbers):
            self.failed.append(f"'{title}' shows {shown}: {asked}")

    def panels(self) -> None:
        shown = dashboard.load()
        for query in dashboard.queries(shown) + dashboard.annotations(shown):
            self.row(query.title, query.expression, needs_a_number=True)

    def alerts(self) -> None:
        for rule in alerts.rules("alert"):
            for operand in dict.fromkeys(expressions.operands(rule["expr"])):
                self.row(rule["alert"], operand, needs_a_number=False)

    def rules(self) -> None:
        """All of them are evaluated, and without a complaint of Prometheus'."""
        found = self.prometheus.rules()
        self.failed += [f"{rule['name']}: {rule.get('lastError')}" for rule in found if rule["health"] != "ok"]
        expected = len(alerts.rules("alert")) + len(alerts.rules("record"))
        if len(found) != expected:
            self.failed.append(f"Prometheus has {len(found)} of {expected} rules")


def notices(prometheus: Prometheus) -> list[str]:
    """The service is gone: PixartDown is pending, with its sentence filled in. What is wrong, in words."""
    give_up = time.monotonic() + NOTICE_SECONDS
    while time.monotonic() < give_up:
        for alert in prometheus.ask("alerts")["alerts"]:
            if alert["labels"]["alertname"] == "PixartDown":
                summary = alert["annotations"]["summary"]
                print(f"{'PixartDown, service stopped':34} {alert['state']:>16}: {summary}")
                return [] if summary == f"{prometheus.target} does not answer" else [f"PixartDown says '{summary}'"]
        time.sleep(0.5)
    return ["the service is gone, and PixartDown is not even pending"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixart", type=Path, required=True, help="the binary")
    binary = parser.parse_args().pixart.resolve()
    started = time.monotonic()
    with ExitStack() as running:
        with Service(binary, {"queue.capacity": CAPACITY}) as service:
            prometheus = running.enter_context(Prometheus(service.url.removeprefix("http://")))
            wait_for_scrapes(prometheus)
            load(service)
            wait_for_scrapes(prometheus)
            hold_metrics(service)
            table = Table(prometheus)
            table.panels()
            table.alerts()
            table.rules()
        table.failed += notices(prometheus)
    print("\n".join(table.failed), end="\n" if table.failed else "", file=sys.stderr)
    print(f"{len(table.failed)} failed, {time.monotonic() - started:.0f} s")
    return bool(table.failed)


if __name__ == "__main__":
    sys.exit(main())
