"""The unmodified OpenAI SDKs, of Python here and of npm in sdk.mjs, against a real `pixart serve`.

Every check is a function with a sentence for a name. Its parameters say what it needs: `service` is one as it comes,
`strict` one that has a key and no place to wait in, `client` an SDK client of the first that repeats nothing.

What the SDKs tell of their time-out decides whether a repeated request finds its first attempt (`src/http/admission.rs`).
`the_headers_of_the_sdk_are_those_that_the_service_counts_on` records that against the pinned version.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.server
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import openai
from openai import AsyncOpenAI, OpenAI
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent

from service import ROOT, Service, png_size

HERE = Path(__file__).resolve().parent
KEY = "a-key-of-the-sdk-checks"
PROMPT = "A small cactus with a happy face in the Sahara desert."

SLOW_SIZE = "512x512"
SLOW_SECONDS = 3.0
SHORT_TIMEOUT = 1.0  # several of these pass while a slow picture is drawn
RETRIES = 6  # 1 s of reading and 0.5, 1, 2, 4, 8, 8 s of waiting: enough for a picture that takes ten times as long
GONE_SECONDS = 8.0  # within which a job must have noticed that its caller is gone, on a machine that does other things too

ACCEPTED = "pixart_jobs_accepted_total"
CANCELLED = 'pixart_jobs_finished_total{outcome="cancelled"}'
RUNNING = "pixart_requests_running"


def decoded(picture: openai.types.Image) -> bytes:
    """The file of a picture that came in base64."""
    assert picture.b64_json and not picture.url
    return base64.b64decode(picture.b64_json, validate=True)


def wait_until(holds: Callable[[], bool], what: str, seconds: float = GONE_SECONDS) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, f"{what}: not after {seconds} s"
        time.sleep(0.02)


def slow(service: Service) -> dict[str, object]:
    """The fields of a picture that takes some seconds."""
    return {"steps": service.steps_that_take(SLOW_SECONDS, SLOW_SIZE), "scheduler": "lcm"}


# Pictures


def one_picture_is_a_png_of_the_size_asked_for(client: OpenAI) -> None:
    answer = client.images.generate(model="gpt-image-1", prompt=PROMPT, size="192x128")
    assert len(answer.data) == 1
    assert png_size(decoded(answer.data[0])) == (192, 128)
    assert abs(answer.created - time.time()) < 60
    assert (answer.size, answer.output_format) == ("192x128", "png")
    usage = answer.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0
    assert usage.input_tokens_details.image_tokens == 0


def n_pictures_have_seeds_in_a_row_and_each_can_be_drawn_alone(client: OpenAI) -> None:
    both = client.images.generate(prompt=PROMPT, n=2, extra_body={"seed": 43}).data
    assert [picture.seed for picture in both] == [43, 44]
    assert decoded(both[0]) != decoded(both[1])
    second = client.images.generate(prompt=PROMPT, extra_body={"seed": 44}).data[0]
    assert decoded(second) == decoded(both[1])


def fields_beyond_the_sdk_s_own_are_understood(client: OpenAI) -> None:
    own = {"seed": 7, "steps": 3, "guidance_scale": 0}
    first, again = (client.images.generate(prompt=PROMPT, extra_body=own) for _ in range(2))
    assert decoded(first.data[0]) == decoded(again.data[0])
    assert first.data[0].receipt["steps"] == 3
    other = client.images.generate(prompt=PROMPT, extra_body=own | {"seed": 8})
    assert decoded(other.data[0]) != decoded(first.data[0])


def fields_without_effect_are_told_in_warnings(client: OpenAI) -> None:
    answer = client.images.generate(
        prompt=PROMPT, quality="high", style="vivid", background="auto", moderation="low", user="somebody",
        extra_body={"input_fidelity": "high"},
    )  # fmt: skip
    told = {(warning["code"], warning["param"]) for warning in answer.warnings}
    assert told == {("ignored_field", name) for name in ("quality", "style", "moderation", "input_fidelity")}, told


def a_picture_by_url_can_be_fetched(client: OpenAI) -> None:
    picture = client.images.generate(prompt=PROMPT, response_format="url", extra_body={"seed": 43}).data[0]
    assert picture.url and not picture.b64_json
    with urllib.request.urlopen(picture.url) as answer:
        assert answer.headers["Content-Type"] == "image/png"
        fetched = answer.read()
    assert fetched == decoded(client.images.generate(prompt=PROMPT, extra_body={"seed": 43}).data[0])
    # Programs that were written for these models read nothing else.
    old = client.images.generate(model="dall-e-3", prompt=PROMPT).data[0]
    assert old.url and not old.b64_json


def a_url_opens_without_the_key_that_it_was_asked_for_with(strict: Service) -> None:
    with OpenAI(base_url=f"{strict.url}/v1", api_key=KEY, max_retries=0) as client:
        url = client.images.generate(prompt=PROMPT, response_format="url").data[0].url
    with urllib.request.urlopen(url) as answer:
        assert answer.read()[:4] == b"\x89PNG"
    try:
        urllib.request.urlopen(url.split("?")[0]).close()
    except urllib.error.HTTPError as error:
        assert error.code == 401
    else:
        raise AssertionError("without its signature the URL opens as well")


def a_base_url_with_slashes_too_many_is_understood(service: Service) -> None:
    for base in (f"{service.url}//v1/", f"{service.url}/v1//"):
        with OpenAI(base_url=base, api_key="none", max_retries=0) as client:
            assert client.images.generate(prompt=PROMPT).data


def jpeg_and_webp_are_what_they_are_called(client: OpenAI) -> None:
    jpeg = client.images.generate(prompt=PROMPT, output_format="jpeg", output_compression=80)
    assert decoded(jpeg.data[0])[:3] == b"\xff\xd8\xff"
    webp = decoded(client.images.generate(prompt=PROMPT, output_format="webp").data[0])
    assert (webp[:4], webp[8:12]) == (b"RIFF", b"WEBP")


def a_stream_has_previews_from_0_and_then_the_picture(client: OpenAI) -> None:
    own = {"seed": 43}
    stream = client.images.generate(prompt=PROMPT, stream=True, partial_images=2, extra_body=own)
    events = list(stream)
    *partial, completed = events
    assert [type(event) for event in partial] == [ImageGenPartialImageEvent] * 2, events
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    assert [event.partial_image_index for event in partial] == [0, 1]
    for event in partial:
        assert png_size(base64.b64decode(event.b64_json)) == (256, 256)
    assert type(completed) is ImageGenCompletedEvent
    assert completed.type == "image_generation.completed"
    assert completed.usage.total_tokens > 0
    plain = client.images.generate(prompt=PROMPT, extra_body=own)
    assert base64.b64decode(completed.b64_json) == decoded(plain.data[0])


def a_stream_of_two_pictures_completes_twice(client: OpenAI) -> None:
    events = list(client.images.generate(prompt=PROMPT, n=2, stream=True, partial_images=1))
    order = [(event.type.rpartition(".")[2], event.partial_image_index if hasattr(event, "partial_image_index") else None)
             for event in events]  # fmt: skip
    assert order == [("partial_image", 0), ("completed", None)] * 2, order


def the_async_client_draws_and_streams(service: Service) -> None:
    async def draw() -> None:
        async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
            one, two = await asyncio.gather(
                client.images.generate(prompt=PROMPT, extra_body={"seed": 1}),
                client.images.generate(prompt=PROMPT, extra_body={"seed": 1}),
            )
            assert decoded(one.data[0]) == decoded(two.data[0])
            stream = await client.images.generate(prompt=PROMPT, stream=True, partial_images=2)
            types = [event.type async for event in stream]
            assert types == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], types
            assert [model.id async for model in client.models.list()]

    asyncio.run(draw())


# Models


def the_model_is_listed_and_known_by_its_aliases(client: OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.object, model.owned_by) == ("model", "pixart")
    for name in (model.id, model.id.upper(), "gpt-image-1", "gpt-image-2.5-sunburst", "chatgpt-image-latest", "dall-e-3"):
        assert client.models.retrieve(name).id == model.id
        answer = client.images.generate(model=name, prompt=PROMPT)
        assert answer.model == model.id


# Headers


def raw_answers_have_the_headers_of_the_contract(client: OpenAI) -> None:
    raw = client.images.with_raw_response.generate(prompt=PROMPT, extra_headers={"x-request-id": "mine-1"})
    assert raw.status_code == 200
    assert raw.headers["x-request-id"] == "mine-1" == raw.request_id
    assert re.fullmatch("[0-9a-f]{32}", raw.headers["x-job-id"])
    assert "denoise;dur=" in raw.headers["server-timing"]
    parsed = raw.parse()
    assert parsed.id == raw.headers["x-job-id"]
    assert png_size(decoded(parsed.data[0])) == (256, 256)


def the_headers_of_the_sdk_are_those_that_the_service_counts_on(_: OpenAI) -> None:
    heard: list[dict[str, str]] = []

    class Deaf(http.server.BaseHTTPRequestHandler):
        """Writes headers down and lets the first attempt run into its time-out."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            heard.append({name.lower(): value for name, value in self.headers.items()})
            if len(heard) == 1:
                time.sleep(2 * SHORT_TIMEOUT)
            body = b'{"created": 0, "data": []}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except BrokenPipeError:
                pass  # the caller has gone, as it should

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Deaf) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        OpenAI(base_url=url, api_key="none", timeout=SHORT_TIMEOUT, max_retries=1).images.generate(prompt=PROMPT)
        OpenAI(base_url=url, api_key="none").images.generate(prompt=PROMPT)
        server.shutdown()
    sent = [(headers["x-stainless-retry-count"], headers["x-stainless-read-timeout"]) for headers in heard]
    assert sent == [("0", "1.0"), ("1", "1.0"), ("0", "600")], sent
    assert all(headers["x-stainless-lang"] == "python" and "idempotency-key" not in headers for headers in heard)


# Errors


def refusal(draw: Callable[[], object], kind: type[openai.APIStatusError], code: str, param: str | None, of: str) -> None:
    """Holds that `draw` is refused as the SDK's class says, with all that the SDK shows of an error."""
    try:
        draw()
    except kind as error:
        assert type(error) is kind
        assert (error.code, error.param, error.type) == (code, param, of), error
        assert error.request_id == error.response.headers["x-request-id"]
        assert error.body["message"] in error.message
        return
    raise AssertionError(f"{kind.__name__} was expected and nothing raised")


def errors_have_the_class_of_their_status_and_say_code_param_and_type(client: OpenAI) -> None:
    invalid = "invalid_request_error"
    draw = client.images.generate
    refusal(lambda: client.post("/images/generations", body=["no object"], cast_to=object),
            openai.BadRequestError, "invalid_request", None, invalid)  # fmt: skip
    refusal(lambda: draw(prompt=PROMPT, size="100x100"), openai.UnprocessableEntityError, "invalid_value", "size", invalid)
    refusal(lambda: draw(prompt=" "), openai.UnprocessableEntityError, "invalid_value", "prompt", invalid)
    refusal(lambda: draw(prompt=PROMPT, n=11), openai.UnprocessableEntityError, "invalid_value", "n", invalid)
    refusal(lambda: draw(prompt=PROMPT, extra_body={"seed": 1, "rng_seed": 1}),
            openai.UnprocessableEntityError, "conflicting_fields", "rng_seed", invalid)  # fmt: skip
    refusal(lambda: draw(prompt=PROMPT, model="nobody-s"), openai.NotFoundError, "model_not_found", "model", invalid)
    refusal(lambda: client.models.retrieve("nobody-s"), openai.NotFoundError, "model_not_found", "model", invalid)
    refusal(lambda: client.post("/chat/completions", body={}, cast_to=object),
            openai.NotFoundError, "not_found", None, invalid)  # fmt: skip


def a_wrong_key_is_an_authentication_error(strict: Service) -> None:
    with OpenAI(base_url=f"{strict.url}/v1", api_key="a-key-that-nobody-has", max_retries=0) as client:
        kind = "authentication_error"
        refusal(lambda: client.images.generate(prompt=PROMPT), openai.AuthenticationError, "invalid_api_key", None, kind)
        refusal(lambda: list(client.models.list()), openai.AuthenticationError, "invalid_api_key", None, kind)
    with OpenAI(base_url=f"{strict.url}/v1", api_key=KEY, max_retries=0) as client:
        assert client.images.generate(prompt=PROMPT).data


def a_full_queue_is_a_rate_limit_error_and_retries_get_through_it(service: Service, strict: Service) -> None:
    steps = slow(service)
    url = f"{strict.url}/v1"
    with OpenAI(base_url=url, api_key=KEY, max_retries=0) as hasty, OpenAI(base_url=url, api_key=KEY) as patient:
        first = threading.Thread(
            target=lambda: patient.images.generate(prompt=PROMPT, size=SLOW_SIZE, extra_body=steps)
        )
        first.start()
        wait_until(lambda: strict.metric(RUNNING) == 1, "the first picture is drawn")
        refusal(lambda: hasty.images.generate(prompt=PROMPT), openai.RateLimitError, "queue_full", None, "rate_limit_error")
        try:
            hasty.images.generate(prompt=PROMPT)
        except openai.RateLimitError as error:
            assert int(error.response.headers["retry-after"]) >= 1
        assert patient.with_options(max_retries=RETRIES).images.generate(prompt=PROMPT).data
        first.join()


def an_error_in_mid_stream_is_raised(service: Service, client: OpenAI) -> None:
    raw = client.images.with_raw_response.generate(
        prompt=PROMPT, size=SLOW_SIZE, stream=True, partial_images=1, extra_body=slow(service)
    )
    job = raw.headers["x-job-id"]
    stream = raw.parse()
    urllib.request.urlopen(urllib.request.Request(f"{service.url}/v1/jobs/{job}", method="DELETE")).close()
    try:
        list(stream)
    except openai.APIError as error:
        assert (error.code, error.type, error.param) == ("job_cancelled", "invalid_request_error", None), error
        return
    raise AssertionError("the stream ended as if nothing had happened")


# Time-outs and leaving


def a_slow_picture_is_drawn_once_although_the_client_s_time_out_is_short(service: Service) -> None:
    fields = slow(service) | {"seed": 11}
    before = service.metric(ACCEPTED)
    began = time.monotonic()
    with OpenAI(base_url=f"{service.url}/v1", api_key="none", timeout=SHORT_TIMEOUT, max_retries=RETRIES) as client:
        answer = client.images.generate(prompt=PROMPT, size=SLOW_SIZE, extra_body=fields)
    assert time.monotonic() - began > SHORT_TIMEOUT, "the picture was not slow enough to prove anything"
    assert png_size(decoded(answer.data[0])) == (512, 512)
    assert service.metric(ACCEPTED) == before + 1


def the_same_for_the_async_client(service: Service) -> None:
    fields = slow(service) | {"seed": 12}
    before = service.metric(ACCEPTED)

    async def draw() -> openai.types.ImagesResponse:
        url = f"{service.url}/v1"
        async with AsyncOpenAI(base_url=url, api_key="none", timeout=SHORT_TIMEOUT, max_retries=RETRIES) as client:
            return await client.images.generate(prompt=PROMPT, size=SLOW_SIZE, extra_body=fields)

    assert png_size(decoded(asyncio.run(draw()).data[0])) == (512, 512)
    assert service.metric(ACCEPTED) == before + 1


def a_client_that_is_killed_takes_its_job_with_it(service: Service) -> None:
    cancelled = service.metric(CANCELLED)
    script = (
        "import json, sys, openai\n"
        "openai.OpenAI(base_url=sys.argv[1], api_key='none').images.generate(**json.loads(sys.argv[2]))"
    )
    fields = {"prompt": PROMPT, "size": SLOW_SIZE, "extra_body": {"steps": 50, "scheduler": "lcm"}}
    child = subprocess.Popen([sys.executable, "-c", script, f"{service.url}/v1", json.dumps(fields)])
    try:
        wait_until(lambda: service.metric(RUNNING) == 1, "the picture is drawn", 60)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    wait_until(lambda: service.metric(CANCELLED) == cancelled + 1, "the job is cancelled")
    assert service.metric(RUNNING) == 0


def a_stream_that_is_closed_takes_its_job_with_it(service: Service, client: OpenAI) -> None:
    cancelled = service.metric(CANCELLED)
    stream = client.images.generate(
        prompt=PROMPT, size=SLOW_SIZE, stream=True, partial_images=3, extra_body={"steps": 50, "scheduler": "lcm"}
    )
    next(iter(stream))
    stream.close()
    wait_until(lambda: service.metric(CANCELLED) == cancelled + 1, "the job is cancelled")


# Without an SDK


def the_curl_examples_of_the_documents_work(service: Service) -> None:
    documents = [ROOT / "README.md", ROOT / "openapi.yaml"]
    blocks = [
        block
        for document in documents
        for block in re.findall(r"```console\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    ]
    commands = [
        re.sub(r"\\\n\s*", "", command)
        for block in blocks
        for command in re.findall(r"^\s*\$ (curl (?:[^\n]*\\\n)*[^\n]*)$", block, re.MULTILINE)
    ]
    assert commands, "no document has a curl example any more"
    for command in commands:
        here = command.replace("http://127.0.0.1:8080", service.url).replace("http://localhost:8080", service.url)
        with tempfile.TemporaryDirectory() as folder:
            loud = f'curl() {{ command curl --silent --show-error --fail-with-body "$@"; }}\n{here}'
            done = subprocess.run(["sh", "-c", loud], cwd=folder, capture_output=True, timeout=60, check=False)
            assert done.returncode == 0, f"{command}: {done.stdout[-500:]!r} {done.stderr[-500:]!r}"
            for picture in Path(folder).glob("*.png"):
                png_size(picture.read_bytes())


CHECKS: list[Callable[..., None]] = [
    one_picture_is_a_png_of_the_size_asked_for,
    n_pictures_have_seeds_in_a_row_and_each_can_be_drawn_alone,
    fields_beyond_the_sdk_s_own_are_understood,
    fields_without_effect_are_told_in_warnings,
    a_picture_by_url_can_be_fetched,
    a_url_opens_without_the_key_that_it_was_asked_for_with,
    a_base_url_with_slashes_too_many_is_understood,
    jpeg_and_webp_are_what_they_are_called,
    a_stream_has_previews_from_0_and_then_the_picture,
    a_stream_of_two_pictures_completes_twice,
    the_async_client_draws_and_streams,
    the_model_is_listed_and_known_by_its_aliases,
    raw_answers_have_the_headers_of_the_contract,
    the_headers_of_the_sdk_are_those_that_the_service_counts_on,
    errors_have_the_class_of_their_status_and_say_code_param_and_type,
    a_wrong_key_is_an_authentication_error,
    a_full_queue_is_a_rate_limit_error_and_retries_get_through_it,
    an_error_in_mid_stream_is_raised,
    a_slow_picture_is_drawn_once_although_the_client_s_time_out_is_short,
    the_same_for_the_async_client,
    a_client_that_is_killed_takes_its_job_with_it,
    a_stream_that_is_closed_takes_its_job_with_it,
    the_curl_examples_of_the_documents_work,
]


def run_python(service: Service, strict: Service) -> tuple[int, int]:
    """All checks, and how many passed and failed."""
    passed = failed = 0
    for check in CHECKS:
        began = time.monotonic()
        with OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
            has = {"service": service, "strict": strict, "client": client, "_": client}
            try:
                check(*(has[name] for name in inspect.signature(check).parameters))
            except Exception as error:  # one failed check must not hide the others
                failed += 1
                result = f"FAILED: {type(error).__name__}: {error}"
            else:
                passed += 1
                result = "ok"
        print(f"python: {check.__name__.replace('_', ' ')} ({time.monotonic() - began:.1f} s) … {result}", flush=True)
    return passed, failed


def run_npm(service: Service, strict: Service) -> bool:
    """The checks of sdk.mjs; whether all of them passed."""
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules" / "openai").is_dir():
        what = "node is not here" if node is None else "tests/clients/node_modules is not here (is npm?)"
        print(f"npm: {what}: nothing of the npm package was checked; install Node 22 or later with npm", file=sys.stderr)
        return False
    environment = os.environ | {
        "PIXART_URL": service.url,
        "PIXART_STRICT_URL": strict.url,
        "PIXART_KEY": KEY,
        "PIXART_SLOW": json.dumps({"size": SLOW_SIZE} | slow(service)),
    }
    return subprocess.run([node, HERE / "sdk.mjs"], env=environment, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixart", type=Path, required=True, help="the binary under test")
    binary = parser.parse_args().pixart.resolve()
    with Service(binary) as service, Service(binary, {"auth.keys": KEY, "queue.capacity": 0}) as strict:
        passed, failed = run_python(service, strict)
        print(f"python: openai {openai.__version__}: {passed} passed, {failed} failed", flush=True)
        npm = run_npm(service, strict)
    return 0 if failed == 0 and npm else 1


if __name__ == "__main__":
    sys.exit(main())
