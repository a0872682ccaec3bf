"""A published repository from a hub to an image: `make bench-pull`.

Makes the repository with `pixart synthesize --like`, serves it as the hub does (listing with sizes and digests, redirects, ranges), and
runs what a user would: `pixart pull --check`, `pixart pull --convert`, `pixart generate`. Prints what each took, and fails where a
bound is broken: a check has to end within 5 s and 5 MB.

At full width PixArt-LCM-XL-2-1024-MS wants 48 GB of disk; `--width 96 --layers 2 --text-layers 2` tries all of it in seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import json
import os
import re
import resource
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROMPT = "A small green cactus with a happy face in the Sahara desert at noon."
CHECK_SECONDS, CHECK_BYTES = 5.0, 5_000_000
BLOCK_BYTES = 1 << 20


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """One repository, as the public hub serves it."""

    daemon_threads = True

    def __init__(self, folder: Path, repository: str) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.folder, self.repository, self.sent = folder, repository, 0
        self.listing = json.dumps({"sha": COMMIT, "siblings": [self._sibling(path) for path in self._files()]}).encode()

    def handle_error(self, *_: object) -> None:
        """A client that has read enough closes its connection."""

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def _sibling(self, path: Path) -> dict[str, object]:
        size = path.stat().st_size
        sibling: dict[str, object] = {"rfilename": str(path.relative_to(self.folder)), "size": size, "blobId": "0" * 40}
        if path.suffix != ".json":
            sibling["lfs"] = {"sha256": sha256(path), "size": size, "pointerSize": 134}
        return sibling

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        hub = self.server
        if path == f"/api/models/{hub.repository}/revision/main":
            self._begin(200, len(hub.listing))
            self._write(hub.listing)
        elif path.startswith(f"/{hub.repository}/resolve/{COMMIT}/"):
            # Large files lie elsewhere, as on the public hub.
            self._begin(302, 0, location=path.replace(f"/{hub.repository}/resolve/{COMMIT}/", "/storage/"))
        elif path.startswith("/storage/") and (hub.folder / path.removeprefix("/storage/")).is_file():
            self._file(hub.folder / path.removeprefix("/storage/"))
        else:
            self._begin(404, 0, **{"x-error-code": "EntryNotFound"})

    def _file(self, path: Path) -> None:
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2]), size - 1) if asked and asked[2] else size - 1
        if asked:
            self._begin(206, last + 1 - first, **{"content-range": f"bytes {first}-{last}/{size}"})
        else:
            self._begin(200, size)
        with path.open("rb") as file:
            file.seek(first)
            left = last + 1 - first
            while left > 0 and (block := file.read(min(left, BLOCK_BYTES))):
                self._write(block)
                left -= len(block)

    def _begin(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _write(self, block: bytes) -> None:
        try:
            self.wfile.write(block)
            self.server.sent += len(block)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def run(what: str, command: list[str | Path], environment: dict[str, str]) -> tuple[float, str]:
    start = time.monotonic()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.monotonic() - start
    assert done.returncode == 0, f"{what} ended with {done.returncode}"
    print(f"{what}: {seconds:.1f} s", flush=True)
    return seconds, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixart", type=Path, required=True, metavar="BINARY")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="what is there is not made again")
    parser.add_argument("--like", default="PixArt-alpha/PixArt-LCM-XL-2-1024-MS", metavar="OWNER/NAME")
    parser.add_argument("--dtype", help="instead of the published one")
    for size in ("width", "layers", "text-layers"):
        parser.add_argument(f"--{size}", help="smaller than published")
    parser.add_argument("--text-encoder-weights", default="int8")
    arguments = parser.parse_args()
    pixart, work = arguments.pixart.resolve(), arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)

    repository = work / "repository"
    if not repository.exists():
        flags = [
            word
            for name in ("dtype", "width", "layers", "text_layers")
            if (value := getattr(arguments, name))
            for word in (f"--{name.replace('_', '-')}", value)
        ]
        run("synthesize", [pixart, "synthesize", "--like", arguments.like, "--output", repository, *flags], environment)

    hub = Hub(repository, arguments.like)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    environment |= {"HF_ENDPOINT": hub.address, "PIXART_HOME": str(work / "home"), "HF_HOME": str(work / "hf")}

    convert = ["--convert", "--text-encoder-weights", arguments.text_encoder_weights]
    seconds, text = run("check", [pixart, "pull", arguments.like, "--check", *convert], environment)
    print(text, end="")
    assert seconds < CHECK_SECONDS, f"a check has to end within {CHECK_SECONDS} s"
    print(f"check: {hub.sent / 1e6:.2f} MB from the hub")
    assert hub.sent < CHECK_BYTES, f"a check has to do with {CHECK_BYTES} bytes"

    seconds, text = run("pull --convert", [pixart, "pull", arguments.like, "--quiet", *convert], environment)
    print(text, end="")
    total = sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"pull --convert: {total / seconds / 1e6:.0f} MB/s, resident at the most {peak / 1e6:.0f} MB")

    image = work / "image.png"
    image.unlink(missing_ok=True)
    name = arguments.like.rsplit("/", 1)[1]
    draw = [pixart, "generate", PROMPT, "--seed", "7", "--model", name, "--output", image, "--quiet"]
    _, text = run("generate", draw, environment)
    print(text, end="")
    print(f"{image}: {image.stat().st_size} bytes")


if __name__ == "__main__":
    main()
