"""Coverage-guided fuzzing, by atheris: ``python -m tests.faults.fuzz_atheris [runs]``.

The same promises as in ``fuzz``, of two targets: the decoders, and the ingest endpoint with the application around it,
in one process. Inputs that reach new branches of kldrift's Python are kept and changed further, with the mutations of
``payloads`` among libFuzzer's own. (What polars and orjson do inside is not seen; a crash of theirs is.)

atheris gets an environment of its own in ``.cache/atheris``. An input that breaks a promise is left there, and runs
again with ``python -m tests.faults.fuzz_atheris again TARGET FILE``.
"""

import asyncio
import functools
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from kldrift.assembly.monitors import build_monitors
from kldrift.config.load import load_config
from kldrift.engine.engine import Engine
from kldrift.engine.observing import now_ms
from kldrift.engine.push import PushIntake
from kldrift.export.telemetry import Telemetry
from kldrift.records.formats import Format
from kldrift.records.samples import BodyResult
from kldrift.web.app import App
from kldrift.wire import decode, ndjson
from tests.faults import fuzz, fuzz_http
from tests.faults.payloads import FORMATS, SEEDS, changed
from tests.web.fakes import FakeReaders

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".cache" / "atheris"
REQUIREMENTS = ("atheris==3.0.0", "httpx", "pytest")
MAX_BYTES = 20_000
#: An input begins with so many bytes that choose format and schema, or headers.
CHOICES = 3
#: The branches of what is imported in the block are seen. The kernels come before: numba compiles them from the
#: bytecode, which atheris changes.
_START = """import sys, atheris, kldrift.drift.monitor
with atheris.instrument_imports(include=["kldrift"]):
    from tests.faults import fuzz_atheris
fuzz_atheris.inside(sys.argv[1], sys.argv[2:])
"""
_CODINGS = (b"", b"gzip", b"zstd", b"identity", b"br")
_LOOK_EVERY = 1_000


# --- the targets -----------------------------------------------------------------------------------


def decode_one(data: bytes) -> None:
    """Decode a body beside a good one; raises where something is not as it has to be."""
    if len(data) < CHOICES:
        return
    body_format, block = FORMATS[data[0] % len(FORMATS)], data[1] % 8
    ndjson.BULK_BYTES = 0 if data[2] % 2 else fuzz._BULK_BYTES  # type: ignore[misc]
    schema = fuzz.schema_of(block)
    decoded = decode(body_format, [data[CHOICES:], SEEDS[body_format][0]], schema)
    fuzz.check(decoded, 2, schema)
    fuzz.check_beside(decoded.bodies[-1], _alone(body_format, block))


@functools.cache
def _alone(body_format: Format, block: int) -> BodyResult:
    return decode(body_format, [SEEDS[body_format][0]], fuzz.schema_of(block)).bodies[0]


class Endpoint:
    """The application over an engine, without a socket; called with an input, it posts it."""

    def __init__(self) -> None:
        self._telemetry = Telemetry()
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "kldrift.yaml"
            file.write_text(fuzz_http.CONFIG.format(port=0))
            monitors = build_monitors(load_config(file).monitors, now_ms(), print)
        self._engine = Engine(monitors, 3_600_000, 1 << 24, self._telemetry, now_ms)
        self._engine.start()
        self._loop = asyncio.new_event_loop()
        self._intake = PushIntake(self._engine, self._telemetry, self._loop, now_ms)
        self._intake.start()
        self._app = App(self._intake, FakeReaders(), self._telemetry.http_answered)
        self._n = 0

    def __call__(self, data: bytes) -> int:
        """The status of the answer; raises where there is none, or it or the metrics are not as they have to be."""
        if len(data) < CHOICES:
            return 0
        media = fuzz_http._MEDIA[FORMATS[data[0] % len(FORMATS)]]
        headers = [(b"host", b"localhost"), (b"content-type", media)]
        if coding := _CODINGS[data[1] % len(_CODINGS)]:
            headers.append((b"content-encoding", coding))
        body = data[CHOICES:]
        length = (b"transfer-encoding", b"chunked") if data[1] > 127 else (b"content-length", b"%d" % len(body))
        headers.append(length)
        cut = data[2] * len(body) // 255
        monitor = "mn"[data[2] % 2]
        status = self._loop.run_until_complete(self._post(monitor, headers, [body[:cut], body[cut:]]))
        assert 200 <= status < 500 or status == 503, status
        self._n += 1
        if self._n % _LOOK_EVERY == 0:
            self._engine.evaluate()
            text = self._telemetry.exposition(False, False, self._engine.snapshot)
            names = {family.name for family in text_string_to_metric_families(text.decode())}
            assert "kldrift_samples_counted" in names
        return status

    async def _post(self, monitor: str, headers: list[tuple[bytes, bytes]], pieces: Sequence[bytes]) -> int:
        path = f"/v1/monitors/{monitor}/samples"
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
                 "headers": headers, "http_version": "1.1", "client": ("127.0.0.1", 1)}  # fmt: skip
        last = len(pieces) - 1
        waiting = [{"type": "http.request", "body": piece, "more_body": i < last} for i, piece in enumerate(pieces)]
        sent: list[Any] = []

        async def receive() -> Any:
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return int(sent[0]["status"])

    def close(self) -> None:
        """Count what is queued, and end."""
        self._intake.stop()
        self._engine.stop()
        self._loop.close()


TARGETS: dict[str, Callable[[], Callable[[bytes], object]]] = {"decoders": lambda: decode_one, "ingest": Endpoint}


def seeds() -> list[bytes]:
    """Every good body under every choice of a format."""
    return [bytes((f, unit, 0)) + body for f, name in enumerate(FORMATS) for body in SEEDS[name] for unit in range(4)]


def mutated(data: bytes, seed: int, mutate: Callable[[bytes], bytes]) -> bytes:
    """An input changed by `mutate` in one of two cases, else as ``payloads`` does it."""
    rng = random.Random(seed)
    if len(data) <= CHOICES or rng.random() < 0.5:
        return mutate(data)
    return data[:CHOICES] + changed(rng, data[CHOICES:])


# --- atheris ---------------------------------------------------------------------------------------


def environment() -> Path:
    """The Python of an environment with kldrift, as it is here, and atheris; made where there is none."""
    python, stamp = HOME / "environment" / "bin" / "python", HOME / "stamp"
    content = "\n".join([sys.version, *REQUIREMENTS, (ROOT / "pyproject.toml").read_text()])
    if not stamp.is_file() or stamp.read_text() != content:
        shutil.rmtree(HOME / "environment", ignore_errors=True)
        constraints = ["-c", str(ROOT / "tests" / "constraints.txt")]
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *constraints]
        subprocess.run([sys.executable, "-m", "venv", str(HOME / "environment")], check=True)
        subprocess.run([*pip, *REQUIREMENTS, "-e", str(ROOT)], check=True)
        stamp.write_text(content)
    return python


def run(target: str, runs: int) -> str:
    """Run so many inputs of a target in a process of its own; the last line that libFuzzer wrote."""
    python = environment()
    corpus, found = HOME / target, HOME / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(seeds()):
        (corpus / f"seed-{i}").write_bytes(data)
    options = [f"-runs={runs}", f"-max_len={MAX_BYTES}", "-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1"]
    command = [str(python), "-c", _START, target, str(corpus), *options]
    done = subprocess.run(
        [*command, f"-artifact_prefix={found}/{target}-"],
        cwd=ROOT, text=True, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    told = "\n".join(lines[-60:])
    assert done.returncode == 0, f"{target}: exit code {done.returncode}; its input is in {found}\n{told}"
    return next((line for line in reversed(lines) if line.startswith("#") and "DONE" in line), lines[-1])


def inside(target: str, arguments: list[str]) -> None:
    """Run libFuzzer, which ends the process; in the environment."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]  # in its environment only

    call = TARGETS[target]()

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        return mutated(data, seed, lambda given: atheris.Mutate(given, max_size))[:max_size]

    atheris.Setup([sys.argv[0], *arguments], call, custom_mutator=mutator)
    atheris.Fuzz()


def main(runs: int = 1_000_000) -> None:
    """Both targets; the endpoint gets a tenth."""
    for target, n in (("decoders", runs - runs // 10), ("ingest", runs // 10)):
        started = time.monotonic()
        last = run(target, n)
        print(f"{target}: {n:,} runs in {time.monotonic() - started:.0f} s, nothing broken: {last}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["again"]:
        TARGETS[sys.argv[2]]()(Path(sys.argv[3]).read_bytes())
    else:
        main(*map(int, sys.argv[1:]))
