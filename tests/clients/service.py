"""A real `pixart serve`: started on a free port with the embedded model, looked at through its metrics, stopped by SIGTERM."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180  # the first start ever writes the embedded model's IR into the cache
STOP_SECONDS = 40  # beyond the grace period of 25


class Service:
    """`pixart serve` with settings of its own, as a context manager.

    Settings are named as in config/default.toml: `Service(binary, {"queue.capacity": 0})`. Nothing of the caller's own
    PIXART variables gets through, but for the runtime's place.
    """

    def __init__(self, binary: Path, settings: dict[str, object] | None = None) -> None:
        self.binary = binary
        self.settings = {"server.listen": "127.0.0.1:0", "log.format": "json"} | (settings or {})
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file = tempfile.NamedTemporaryFile(prefix="pixart-serve-", suffix=".log", delete=False)

    def __enter__(self) -> Service:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PIXART_") or name == "PIXART__OPENVINO__LIBRARY"
        }
        for key, value in self.settings.items():
            environment["PIXART__" + key.upper().replace(".", "__")] = str(value)
        self._process = subprocess.Popen(
            [str(self.binary), "serve"], cwd=ROOT, env=environment, stdout=self._log_file, stderr=subprocess.STDOUT
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        status = self._stop()
        if kind is None and status != 0:
            raise RuntimeError(f"pixart serve exited with {status}: {self.log()[-2000:]}")
        Path(self._log_file.name).unlink()

    def _wait_until_ready(self) -> None:
        """Ready, not only listening: no client is to meet 503."""
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            if self._process is not None and self._process.poll() is not None:
                break
            listening = re.search(r'"message":"listening[^\n]*"address":"([^"]+)"', self.log())
            if listening:
                self.url = f"http://{listening[1]}"
                if self._answers("/readyz"):
                    return
            time.sleep(0.05)
        raise RuntimeError(f"pixart serve did not become ready: {self.log()[-2000:]}")

    def _answers(self, path: str) -> bool:
        try:
            self.get(path)
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def _stop(self) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def log(self) -> str:
        """All that it has logged."""
        return Path(self._log_file.name).read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> bytes:
        """The body of a GET; raises for every status that is no success."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read()

    def post(self, path: str, body: dict[str, object]) -> dict:
        """The JSON answer to a POST of JSON."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def metric(self, series: str) -> float:
        """The value of one series, written as Prometheus writes it: `name` or `name{label="value"}`."""
        for line in self.get("/metrics").decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        raise KeyError(series)

    def steps_that_take(self, seconds: float, size: str) -> int:
        """How many LCM steps make a picture of this size take about so long on this machine, as the service predicts it."""
        picture = {"prompt": "a slow picture", "size": size, "scheduler": "lcm"}
        self.post("/v1/images", picture | {"steps": 2, "response_format": "url"})
        for steps in range(2, 51):
            predicted = self.post("/v1/images/estimate", picture | {"steps": steps})["predicted_seconds"]
            if predicted >= seconds:
                return steps
        return 50


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG of 8-bit RGB, after its checksums and the length of its pixels were found right."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n", f"no PNG: {data[:8]!r}"
    width = height = 0
    pixels = b""
    at = 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + chunk), f"the checksum of {kind!r} is wrong"
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", chunk[:10])
            assert (depth, colour) == (8, 2), f"depth {depth} and colour type {colour}, not 8-bit RGB"
        elif kind == b"IDAT":
            pixels += chunk
        at += 12 + length
    assert len(zlib.decompress(pixels)) == height * (1 + 3 * width), "the pixels are not all there"
    return width, height
