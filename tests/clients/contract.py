"""schemathesis against a real `pixart serve`: what openapi.yaml allows and what it forbids, asked, and every answer held to it.

All of schemathesis' checks and those of contract_checks.py: no server error, no status, content type, header or body that
openapi.yaml does not have; what it forbids is refused; jobs are followed through its links. The seed is fixed; what was
found is printed with the request to repeat it. The service runs with the limits of the schema, but for those that keep
the drawing quick: `limits.max_megapixel_steps` is 1, so that what costs more is refused with 422 `too_costly`.

With QUICK=1 in the environment, fewer cases, for every change; without, all, which must be 2,000 at least.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from service import ROOT, Service

HERE = Path(__file__).resolve().parent
SEED = 20261123
EXAMPLES, QUICK_EXAMPLES = 120, 12  # of each operation and phase
LEAST_CASES, LEAST_QUICK_CASES = 2000, 300

SETTINGS = {
    "limits.max_megapixel_steps": 1,
    "queue.capacity": 1000,
    "log.level": "info,access=off",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixart", type=Path, required=True, help="the binary under test")
    parser.add_argument("more", nargs="*", help="passed on to `schemathesis run`, after --")
    arguments = parser.parse_args()
    quick = bool(os.environ.get("QUICK"))
    examples, least = (QUICK_EXAMPLES, LEAST_QUICK_CASES) if quick else (EXAMPLES, LEAST_CASES)
    began = time.monotonic()
    with Service(arguments.pixart.resolve(), SETTINGS) as service, tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(HERE / "schemathesis.toml"), "--no-color",
            "run", str(ROOT / "openapi.yaml"), "--url", service.url, "--seed", str(SEED), "--max-examples", str(examples),
            *arguments.more,
        ]  # fmt: skip
        # What schemathesis writes beside its answer is left in a folder that goes away.
        environment = os.environ | {"PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "contract_checks"}
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout)
        counted = re.search(r"^\s*([\d,]+) generated", done.stdout, re.MULTILINE)
        cases = int(counted[1].replace(",", "")) if counted else 0
        restarts = sum(service.metric(f'pixart_worker_restarts_total{{reason="{reason}"}}') for reason in ("panic", "engine"))
        errors = [line for line in service.log().splitlines() if '"level":"ERROR"' in line]
    print(f"contract: {cases} cases in {time.monotonic() - began:.0f} s, {len(errors)} errors in the log, {restarts:.0f} restarts")
    for line in errors[:5]:
        print(line[:1000])
    enough = cases >= least
    if not enough:
        print(f"contract: fewer than {least} cases", file=sys.stderr)
    return 0 if done.returncode == 0 and enough and not errors and restarts == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
