"""Debian's Prometheus over a running pixart: with the project's own configuration, only quicker, and asked through its API."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "deploy/prometheus/prometheus.yml"
START_SECONDS = 60
STOP_SECONDS = 20


class Prometheus:
    """`prometheus` as a context manager: scrapes `target` every second and evaluates the project's rules as often."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="pixart-prometheus-")

    def __enter__(self) -> Prometheus:
        program = shutil.which("prometheus")
        if program is None:
            raise SystemExit("prometheus is not here: apt-get install prometheus")
        folder = Path(self._folder.name)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self._configuration()))
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def _configuration(self) -> dict:
        """prometheus.yml with the service's address here, once a second, and rules that are found from anywhere."""
        configuration = yaml.safe_load(CONFIGURATION.read_text())
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = [str(CONFIGURATION.parent / pattern) for pattern in configuration["rule_files"]]
        addresses = {"pixart": self.target, "prometheus": self.url.removeprefix("http://")}
        for job in configuration["scrape_configs"]:
            job["static_configs"] = [{"targets": [addresses[job["job_name"]]]}]
            job.pop("dns_sd_configs", None)
        return configuration

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self._process is not None and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self.url + "/-/ready", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise RuntimeError(f"prometheus did not become ready: {(Path(self._folder.name) / 'log').read_text()[-2000:]}")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()

    def ask(self, path: str, **parameters: str) -> dict:
        """The `data` of an answer of /api/v1."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path} {parameters}: {error.read().decode()}") from error

    def values(self, expression: str) -> list[float]:
        """The value of each series of an expression, now."""
        result = self.ask("query", query=expression)
        series = [result["result"]] if result["resultType"] == "scalar" else [one["value"] for one in result["result"]]
        return [float(value) for _time, value in series]

    def rules(self) -> list[dict]:
        """All rules with their health, as last evaluated."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
