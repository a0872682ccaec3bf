"""A stand-in for a container engine: the run-time tree under bubblewrap, as hard as compose file and manifests have it.

Read-only root, user 65532, no capabilities, no new privileges, process 1 of its own process space, an empty environment but
for what is set, nothing writable but a tmpfs of a given size at /tmp, no network but the loopback.

The base image is stood in for by the host's own loader, libc, libm, libgcc_s and libstdc++, bound read-only one by one
(`BASE`): nothing else of the host can be seen inside.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/clients"))

from service import STOP_SECONDS, Service  # noqa: E402 # it lies beside the other clients of the service

# What the base images bring and the tree may ask for: of Debian's libc6, libgcc-s1 and libstdc++6.
BASE = {
    "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6",
    "libpthread.so.0", "librt.so.1", "libstdc++.so.6",
}  # fmt: skip
USER = 65532
TMPFS_BYTES = 64 << 20
REFUSAL_SECONDS = 60  # a machine that does other things too reads a model in tens of seconds
OWN_NETWORK = "PIXART_TESTS_OWN_NETWORK"


def into_own_network() -> None:
    """Starts this script again where there is no network but the loopback: whose ports are all free, and ends with it.

    Root stays root there, so that it can give files to others; anybody else becomes root of a user space of one.
    """
    if OWN_NETWORK not in os.environ:
        for program, package in ("bwrap", "bubblewrap"), ("unshare", "util-linux"):
            if shutil.which(program) is None:
                sys.exit(f"{program} is not here: apt-get install {package}")
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", "--net", *user, "--", sys.executable, *sys.argv]
        os.execvpe(command[0], command, os.environ | {OWN_NETWORK: "1"})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # SIOCSIFFLAGS of "lo" to IFF_UP: a new network's loopback is there and down.
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))


def can_be_others() -> bool:
    """Whether this process may become user 65532, and give files away."""
    return os.geteuid() == 0 and any(
        int(first) <= USER < int(first) + int(count)
        for first, _, count in (line.split() for line in Path("/proc/self/uid_map").read_text().splitlines())
    )


@functools.cache
def libraries_asked_for(tree: Path) -> dict[str, Path]:
    """What the programs and libraries of the tree load from outside of it, as the loader finds it here: name to file."""
    found: dict[str, Path] = {}
    for file in [tree / "usr/local/bin/pixart", *sorted((tree / "usr/local/lib/openvino").glob("*.so*"))]:
        said = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout
        for line in said.splitlines():
            if missing := re.search(r"(\S+) => not found", line):
                raise AssertionError(f"{file.name} needs {missing[1]}, which neither the tree nor this machine has")
            if path := re.search(r"(/\S+) \(0x", line):
                if not Path(path[1]).is_relative_to(tree):
                    found[Path(path[1]).name] = Path(path[1])
    return found


class Container(Service):
    """`pixart serve` in the tree. A context manager as `Service` is, and `refusal` for one that is not to get so far.

    `environment` has the variables that are set beside those of the Dockerfile; `models` what is bound at /models; `binds`
    more such, by their place inside; `tmpfs` the bytes of /tmp, 0 for none.
    """

    def __init__(
        self,
        tree: Path,
        environment: dict[str, str] | None = None,
        models: Path | None = None,
        binds: dict[str, Path] | None = None,
        tmpfs: int = TMPFS_BYTES,
    ) -> None:
        super().__init__(tree / "usr/local/bin/pixart")
        self.tree = tree
        self.environment = environment or {}
        self.binds = ({"/models": models} if models else {}) | (binds or {})
        self.tmpfs = tmpfs
        self.pid = 0

    def __enter__(self) -> Container:
        self._start()
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def refusal(self) -> tuple[int, list[str]]:
        """Its exit status and the lines that are no log, when it does not serve; fails when it gets ready."""
        self._start()
        give_up = time.monotonic() + REFUSAL_SECONDS
        while self._process.poll() is None:
            if '"message":"ready"' in self.log() or time.monotonic() > give_up:
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"it neither refused nor ended: {self.log()[-2000:]}")
            time.sleep(0.05)
        lines = [line for line in self.log().splitlines() if not line.startswith("{")]
        Path(self._log_file.name).unlink()
        return self._process.returncode, lines

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another `pixart` of the same image and network, as the engine starts one for HEALTHCHECK."""
        return subprocess.run(
            self._command(*arguments), capture_output=True, text=True, timeout=REFUSAL_SECONDS, **self._identity()
        )

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        return self._process.wait(seconds)

    def _start(self) -> None:
        # Kept open: bubblewrap tells of the end through it too, and would die of a reader that has gone.
        status, status_of_sandbox = os.pipe()
        self._status = os.fdopen(status)
        with os.fdopen(status_of_sandbox, "w"):
            self._process = subprocess.Popen(
                self._command("serve", status=status_of_sandbox),
                stdout=self._log_file, stderr=subprocess.STDOUT, pass_fds=[status_of_sandbox], **self._identity(),
            )  # fmt: skip
        with contextlib.suppress(json.JSONDecodeError):
            self.pid = json.loads(self._status.readline())["child-pid"]
        if not self.pid:
            raise AssertionError(f"bubblewrap did not start it: {self.log()}")

    def _stop(self) -> int:
        # The signal is for pixart, not for bubblewrap around it.
        with contextlib.suppress(ProcessLookupError):
            if self._process.poll() is None:
                self.terminate()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _identity(self) -> dict[str, object]:
        # Nothing of the caller's environment is left, not even for bubblewrap itself.
        identity: dict[str, object] = {"env": {"PATH": os.environ["PATH"]}, "cwd": "/"}
        return identity | ({"user": USER, "group": USER, "extra_groups": []} if can_be_others() else {})

    def _command(self, *arguments: str, status: int | None = None) -> list[str]:
        command = ["bwrap", "--unshare-all", "--share-net", "--cap-drop", "ALL", "--as-pid-1", "--die-with-parent"]
        command += ["--uid", str(USER), "--gid", str(USER), "--clearenv"]
        variables = {"PATH": "/usr/local/bin", "PIXART_CONFIG": "/etc/pixart/config.toml"} | self.environment
        for name, value in variables.items():
            command += ["--setenv", name, value]
        for file in libraries_asked_for(self.tree).values():
            command += ["--ro-bind", str(file.resolve()), str(file)]
        for part in "usr", "etc", "models":
            command += ["--ro-bind", str(self.tree / part), f"/{part}"]
        command += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"]
        if not self.tmpfs:
            command += ["--dir", "/tmp"]
        else:
            command += ["--perms", "1777", "--size", str(self.tmpfs), "--tmpfs", "/tmp"]
        for place, source in self.binds.items():
            command += ["--ro-bind", str(source), place]
        command += ["--remount-ro", "/", "--chdir", "/"]
        if status is not None:
            command += ["--json-status-fd", str(status)]
        return [*command, "--", "/usr/local/bin/pixart", *arguments]
