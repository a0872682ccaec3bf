"""What the checks of the run-time tree work with: the tree itself, a converted model, copies of it to spoil."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox import ROOT, Container

GRACE_SECONDS = 10
PROMPT = "a red star in the night sky"
MODEL = "PIXART__MODEL__DIRECTORY"


class Stage:
    """What the checks work with: the tree, a converted model, and a folder to spoil things in."""

    def __init__(self, binary: Path, libraries: Path, folder: Path) -> None:
        self.binary = binary
        self.folder = folder
        self.tree = folder / "tree"
        subprocess.run([ROOT / "deploy/layout.sh", binary, libraries, self.tree], check=True)
        self.models = folder / "models"
        environment = {"PATH": os.environ["PATH"], "PIXART__OPENVINO__LIBRARY": str(libraries)}
        convert = [binary, "convert", "--quiet", ROOT / "models/sketchbook", "--output", self.models / "sketchbook"]
        subprocess.run(convert, env=environment, check=True, stdout=subprocess.DEVNULL)

    @contextmanager
    def copy_of_models(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            volume = Path(name) / "volume"
            shutil.copytree(self.models, volume)
            Path(name).chmod(0o755)
            yield volume
            # Or nobody but root could remove it.
            for path in [volume, *volume.rglob("*")]:
                if path.is_dir():
                    path.chmod(0o755)

    def container(self, environment: dict[str, str] | None = None, **more: object) -> Container:
        grace = {"PIXART__SERVER__GRACE_SECONDS": str(GRACE_SECONDS)}
        return Container(self.tree, grace | (environment or {}), **more)


def png(container: Container, size: str, **more: object) -> bytes:
    body = json.dumps({"prompt": PROMPT, "seed": 1, "size": size} | more).encode()
    headers = {"Content-Type": "application/json", "Accept": "image/png"}
    request = urllib.request.Request(f"{container.url}/v1/images", body, headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read()
