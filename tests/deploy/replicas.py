"""Two real replicas behind a real HAProxy with deploy/haproxy/haproxy.cfg: nothing that was admitted is lost.

Not when twelve come at once, not when a replica is killed, not when one comes back at once, not when both are restarted one
after the other; and what is not drawn (health, capabilities, jobs) never waits behind what is.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/clients"))

from checks import run_all
from service import Service, png_size  # noqa: E402 # it lies beside the other clients of the service

SIZE = "256x256"
RETRY_AFTER = 7
MOST_STEPS = 50  # that LCM can take
LAME_DUCK_SECONDS = 3  # as in compose.yaml
START_SECONDS = 20
BACK_SECONDS = 0.1  # Docker's pause before it starts what has died again
CHANGE_SECONDS = 15  # within which what happened must show, on a machine that does other things too


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as any_port:
        return any_port.getsockname()[1]


def wait_until(holds: Callable[[], bool], what: str, seconds: float = CHANGE_SECONDS) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, f"{what}: not after {seconds} s"
        time.sleep(0.02)


class Replica(Service):
    """One that comes back at the same address."""

    def __init__(self, binary: Path) -> None:
        # Two of them share the machine, so each computes with a part of it.
        threads = max(1, (os.cpu_count() or 2) // 2)
        super().__init__(
            binary,
            {
                "server.listen": f"127.0.0.1:{free_port()}",
                "server.lame_duck_seconds": LAME_DUCK_SECONDS,
                "openvino.threads": threads,
            },
        )

    @property
    def address(self) -> str:
        return str(self.settings["server.listen"])

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> int:
        """By SIGTERM; its exit status."""
        return self._stop()

    def start(self) -> None:
        # The log is what tells when it listens: that of the life before must not.
        self._log_file.truncate(0)
        self.__enter__()


class Loading:
    """What a replica is to its callers while it loads, for as long as the test likes: it listens, and says 503 to everything."""

    def __init__(self, address: str) -> None:
        self.asked = 0
        loading = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b'{"status":"loading"}'
                # Who checks has gone as soon as it has read the status.
                with contextlib.suppress(OSError):
                    self.send_response(503)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def do_POST(self) -> None:
                loading.asked += 1
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        host, _, port = address.rpartition(":")
        self._server = http.server.ThreadingHTTPServer((host, int(port)), Answer)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Loading:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Balancer:
    """HAProxy with the configuration that ships, in front of replicas."""

    def __init__(self, replicas: list[Replica], waiting: int) -> None:
        self.host, self.port, self.stats = "127.0.0.1", free_port(), free_port()
        self.url = f"http://{self.host}:{self.port}"
        self._log_file = tempfile.TemporaryFile()
        self._environment = {
            "PATH": os.environ["PATH"],
            "PIXART_LISTEN": f"{self.host}:{self.port}",
            "PIXART_STATS": f"{self.host}:{self.stats}",
            "PIXART_REPLICA_1": replicas[0].address,
            "PIXART_REPLICA_2": replicas[1].address,
            "PIXART_WAITING": str(waiting),
            "PIXART_RETRY_AFTER": str(RETRY_AFTER),
        }

    def __enter__(self) -> Balancer:
        self._process = subprocess.Popen(
            [haproxy(), "-db", "-f", ROOT / "deploy/haproxy/haproxy.cfg"],
            env=self._environment, stdout=self._log_file, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            wait_until(lambda: self.get("/readyz")[0] == 200 and self.up() == 2, "HAProxy sees both", START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        self._log_file.seek(0)
        return self._log_file.read().decode(errors="replace")

    def get(self, path: str, port: int | None = None) -> tuple[int, bytes]:
        assert self._process.poll() is None, f"HAProxy ended: {self.log()}"
        try:
            with urllib.request.urlopen(f"http://{self.host}:{port or self.port}{path}", timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def _number(self, pattern: str) -> list[float]:
        return [float(value) for value in re.findall(pattern, self.get("/metrics", self.stats)[1].decode())]

    def waiting(self) -> float:
        return sum(self._number(r'haproxy_backend_current_queue\{proxy="pictures"\} (\S+)'))

    def has_checked(self) -> bool:
        """Whether each replica has passed a check. Until it has, one failure takes it out, whatever `fall` says."""
        return self._number(r'haproxy_server_check_code\{proxy="pictures",server="[^"]+"\} (\S+)') == [200, 200]

    def up(self) -> float:
        return sum(self._number(r'haproxy_backend_active_servers\{proxy="pictures"\} (\S+)'))


def haproxy() -> str:
    # Debian has it where only root's PATH looks.
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin") or "haproxy"


class Call(threading.Thread):
    """A request for a picture by somebody who waits for it, or leaves."""

    def __init__(self, balancer: Balancer, path: str = "/v1/images", **body: object) -> None:
        super().__init__(daemon=True)
        self.status, self.answer, self.headers = 0, b"", {}
        self.error: Exception | None = None
        self.seconds = 0.0
        self._path = path
        self._body = json.dumps({"prompt": "a red star in the night sky", "size": SIZE, "scheduler": "lcm"} | body)
        self._connection = http.client.HTTPConnection(balancer.host, balancer.port, timeout=300)

    def run(self) -> None:
        began = time.monotonic()
        try:
            headers = {"Content-Type": "application/json", "Accept": "image/png"}
            self._connection.request("POST", self._path, self._body, headers)
            answer = self._connection.getresponse()
            self.status, self.answer, self.headers = answer.status, answer.read(), dict(answer.getheaders())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.error = error
        self.seconds = time.monotonic() - began

    def leave(self) -> None:
        self._connection.sock.shutdown(socket.SHUT_RDWR)

    def is_drawn(self) -> bool:
        return self.status == 200 and png_size(self.answer) == tuple(map(int, SIZE.split("x")))

    def __str__(self) -> str:
        return f"{self.status} {self.error or self.answer[:200]!r} after {self.seconds:.2f} s"


def at_once(calls: Iterable[Call]) -> list[Call]:
    started = list(calls)
    for call in started:
        call.start()
    return started


def ended(calls: list[Call]) -> list[Call]:
    for call in calls:
        call.join(300)
        assert not call.is_alive(), "a caller still waits"
    return calls


def all_drawn(calls: list[Call]) -> None:
    failed = [str(call) for call in ended(calls) if not call.is_drawn()]
    assert not failed, f"{len(failed)} of {len(calls)}: {failed}"


class Stage:
    """Two replicas, and how many steps make a picture of about a second."""

    def __init__(self, replicas: list[Replica], picture_seconds: float) -> None:
        self.replicas = replicas
        self.steps = replicas[0].steps_that_take(picture_seconds, SIZE)

    def total(self, series: str) -> float:
        return sum(replica.metric(series) for replica in self.replicas)

    def both_draw(self) -> bool:
        return all(replica.metric("pixart_requests_running") == 1 for replica in self.replicas)

    def idle(self) -> bool:
        return self.total("pixart_requests_running") == 0


def twelve_at_once_are_drawn_or_refused_with_retry_after(stage: Stage) -> str:
    with Balancer(stage.replicas, waiting=2) as balancer:
        calls = ended(at_once(Call(balancer, steps=stage.steps, seed=seed) for seed in range(12)))
        drawn = [call for call in calls if call.is_drawn()]
        refused = [call for call in calls if call.status == 429]
        others = [str(call) for call in calls if call not in drawn and call not in refused]
        assert not others, others
        # Two are drawn and four wait; a quick one makes room for a seventh.
        assert len(drawn) >= 6 and refused, f"{len(drawn)} drawn, {len(refused)} refused"
        for call in refused:
            assert call.headers["retry-after"] == str(RETRY_AFTER), call.headers
            assert json.loads(call.answer)["error"]["code"] == "queue_full", call.answer
        longest = max(call.seconds for call in refused)
        assert longest < 1, f"a refusal took {longest:.2f} s"
        typical = statistics.median(call.seconds for call in refused)
        return f"{len(drawn)} drawn, {len(refused)} refused within {typical * 1000:.0f} ms (median), {longest * 1000:.0f} ms"


def who_leaves_the_queue_reaches_no_replica_and_who_leaves_a_picture_stops_it(stage: Stage) -> None:
    accepted, cancelled = "pixart_jobs_accepted_total", 'pixart_jobs_finished_total{outcome="cancelled"}'
    before, stopped = stage.total(accepted), stage.total(cancelled)
    with Balancer(stage.replicas, waiting=4) as balancer:
        drawing = at_once(Call(balancer, steps=50, seed=seed) for seed in range(2))
        wait_until(stage.both_draw, "both draw")
        waiting = at_once(Call(balancer, steps=stage.steps, seed=seed) for seed in range(2, 5))
        wait_until(lambda: balancer.waiting() == 3, "three wait")
        for call in waiting:
            call.leave()
        wait_until(lambda: balancer.waiting() == 0, "HAProxy forgets who left")
        drawing[0].leave()
        wait_until(lambda: stage.total(cancelled) == stopped + 1, "the picture that nobody waits for is stopped")
        ended(waiting)
        assert ended(drawing)[1].is_drawn(), drawing[1]
    assert stage.total(accepted) == before + 2, "who left was given to a replica"


def what_is_not_drawn_does_not_wait_and_jobs_are_found_again(stage: Stage) -> str:
    with Balancer(stage.replicas, waiting=1) as balancer:
        calls = at_once(Call(balancer, steps=min(stage.steps * 2, MOST_STEPS), seed=seed) for seed in range(4))
        wait_until(lambda: stage.both_draw() and balancer.waiting() == 2, "both draw and the queue is full")
        began = time.monotonic()
        for path, status in {"/readyz": 200, "/healthz": 200, "/v1/capabilities": 200, "/": 200, "/metrics": 404}.items():
            got = balancer.get(path)[0]
            assert got == status, f"{path}: {got}"
        took = time.monotonic() - began
        assert took < 2, f"the quick answers took {took:.1f} s"
        jobs = ended(at_once(Call(balancer, "/v1/jobs", steps=2, seed=seed) for seed in range(4)))
        assert [call.status for call in jobs] == [202] * 4, [str(call) for call in jobs]
        ids = [json.loads(call.answer)["id"] for call in jobs]
        for _ in range(3):  # in turns, so that luck finds none of them
            found = [balancer.get(f"/v1/jobs/{name}")[0] for name in ids]
            assert found == [200] * 4, found
        assert balancer.get("/v1/jobs/" + "0" * 32)[0] == 404
        all_drawn(calls)
        wait_until(lambda: all(balancer.get(f"/v1/jobs/{name}/images/0")[0] == 200 for name in ids), "the jobs are drawn", 60)
        lives = [sum(known(replica, name) for name in ids) for replica in stage.replicas]
        assert all(lives), f"one replica has all jobs: {lives}"
    return f"{took * 1000:.0f} ms for five quick answers"


def known(replica: Replica, job: str) -> bool:
    try:
        return bool(replica.get(f"/v1/jobs/{job}"))
    except urllib.error.HTTPError:
        return False


def a_replica_killed_under_load_loses_no_request(stage: Stage) -> str:
    with Balancer(stage.replicas, waiting=4) as balancer:
        calls = at_once(Call(balancer, steps=stage.steps, seed=seed) for seed in range(6))
        wait_until(stage.both_draw, "both draw")
        victim = stage.replicas[0]
        victim.kill()
        try:
            wait_until(lambda: balancer.up() == 1, "HAProxy sees that it is gone")
            all_drawn(calls)
        finally:
            victim.start()
        wait_until(lambda: balancer.up() == 2, "HAProxy sees that it is back")
        all_drawn(at_once(Call(balancer, steps=2, seed=seed) for seed in range(2)))
    return f"6 of 6 drawn, the last after {max(call.seconds for call in calls):.1f} s"


def a_replica_that_comes_back_at_once_is_given_nothing_while_it_loads(stage: Stage) -> str:
    with Balancer(stage.replicas, waiting=20) as balancer:
        # One draws meanwhile, so that what the other refuses finds no place there. The other one is idle when it dies: no
        # connection that breaks gives it away.
        wait_until(balancer.has_checked, "HAProxy has asked both")
        long = Call(balancer, steps=MOST_STEPS, size="512x512", seed=0)
        long.start()
        wait_until(lambda: stage.total("pixart_requests_running") == 1, "one draws")
        busy, victim = sorted(stage.replicas, key=lambda replica: replica.metric("pixart_requests_running"), reverse=True)
        victim.kill()
        try:
            time.sleep(BACK_SECONDS)
            with Loading(victim.address) as loading:
                assert busy.metric("pixart_requests_running") == 1, "the long picture was too short: nothing was in the way"
                calls = at_once(Call(balancer, steps=2, seed=seed) for seed in range(4))
                all_drawn(calls)
        finally:
            victim.start()
        assert not loading.asked, f"it was given {loading.asked} pictures while it loaded"
        [long] = ended([long])
        assert long.status == 200, long
        wait_until(lambda: balancer.up() == 2, "HAProxy sees that it is back")
    return f"{len(calls)} of {len(calls)} drawn by the other one"


def a_rolling_restart_under_load_is_seen_by_nobody(stage: Stage) -> str:
    with Balancer(stage.replicas, waiting=20) as balancer:
        began = time.monotonic()
        all_drawn(at_once(Call(balancer, steps=stage.steps, seed=seed) for seed in range(6)))
        each = (time.monotonic() - began) / 6
        calls: list[Call] = []
        enough = threading.Event()

        def arrive() -> None:
            # Open-loop: who comes does not wait for those before.
            while not enough.wait(each / 0.7):
                calls.extend(at_once([Call(balancer, steps=stage.steps, seed=len(calls))]))

        arrivals = threading.Thread(target=arrive)
        arrivals.start()
        try:
            for replica in stage.replicas:
                wait_until(lambda: replica.metric("pixart_requests_running") == 1, "it draws", 60)
                assert replica.end() == 0
                replica.start()
                wait_until(lambda: balancer.up() == 2, "HAProxy sees that it is back")
        finally:
            enough.set()
            arrivals.join()
        all_drawn(calls)
    return f"{len(calls)} of {len(calls)} drawn, one every {each / 0.7:.2f} s"


CHECKS = [
    twelve_at_once_are_drawn_or_refused_with_retry_after,
    who_leaves_the_queue_reaches_no_replica_and_who_leaves_a_picture_stops_it,
    what_is_not_drawn_does_not_wait_and_jobs_are_found_again,
    a_replica_killed_under_load_loses_no_request,
    a_replica_that_comes_back_at_once_is_given_nothing_while_it_loads,
    a_rolling_restart_under_load_is_seen_by_nobody,
]


def when_idle(check: Callable[[Stage], str | None]) -> Callable[[Stage], str | None]:
    def checked(stage: Stage) -> str | None:
        wait_until(stage.idle, "both are idle", 120)
        return check(stage)

    return checked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pixart", type=Path, required=True, help="the binary that serves")
    parser.add_argument("--only", metavar="WORD", help="the checks with this word in their name")
    parser.add_argument("--picture-seconds", type=float, default=1.0, help="how long one picture takes, about")
    arguments = parser.parse_args()
    if not shutil.which(haproxy()):
        sys.exit("haproxy is not here: apt-get install haproxy")

    with Replica(arguments.pixart.resolve()) as one, Replica(arguments.pixart.resolve()) as two:
        stage = Stage([one, two], arguments.picture_seconds)
        checks = [(check.__name__, when_idle(check)) for check in CHECKS]
        return run_all("replicas", checks, stage, arguments.only)


if __name__ == "__main__":
    sys.exit(main())
