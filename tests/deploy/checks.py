"""Runs a program's checks one after the other, and tells of each in a line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any


def run_all(title: str, checks: Sequence[tuple[str, Callable[[Any], str | None]]], stage: object, only: str | None) -> int:
    """Those with `only` in their name, each on `stage`. 1 where one fails, or none was asked."""
    failed = 0
    chosen = [(name, check) for name, check in checks if (only or "") in name]
    for name, check in chosen:
        began = time.monotonic()
        try:
            said = check(stage)
        except Exception as error:  # noqa: BLE001 # the next check may hold all the same
            failed += 1
            print(f"FAILED {name}: {error!s:.800}", flush=True)
        else:
            print(f"ok     {name} ({time.monotonic() - began:.1f} s){f': {said}' if said else ''}", flush=True)
    print(f"{title}: {len(chosen) - failed} of {len(chosen)} checks passed")
    return 1 if failed or not chosen else 0
