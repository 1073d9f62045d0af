"""Build the programs to compare with: ``python -m benchmarks.peers LLAMA_CPP WORK``.

LLAMA_CPP is a source tree of llama.cpp; the one that llama-cpp-python's source archive carries gives both sides the same llama.cpp:

    pip download --no-deps --no-binary llama-cpp-python llama-cpp-python && tar xf llama_cpp_python-*.tar.gz
    python -m benchmarks.peers llama_cpp_python-*/vendor/llama.cpp WORK
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sage_cli.hardware.openmp import POLICIES

OPTIONS: Final = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "LLAMA_CURL": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
}
TARGETS: Final = ("llama-server", "llama-mtmd-cli", "llama-bench")
PATIENCE: Final = 300.0  # seconds that a server may take to load


def build(source: Path, work: Path, jobs: int) -> None:
    options = [f"-D{name}={value}" for name, value in OPTIONS.items()]
    subprocess.run(["cmake", "-S", str(source), "-B", str(work / "build"), *options], check=True)
    subprocess.run(["cmake", "--build", str(work / "build"), "-j", str(jobs), "--target", *TARGETS], check=True)


def find(work: Path, program: str) -> Path:
    """A program built in the folder."""
    path = work / "build" / "bin" / program
    if not path.exists():
        raise SystemExit(f"{path} is not there: run 'python -m benchmarks.peers LLAMA_CPP {work}' first")
    return path


def environment() -> dict[str, str]:
    """This process's, less what makes OpenMP's threads wait as those of ``sage`` do."""
    return {name: value for name, value in os.environ.items() if name not in POLICIES}


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of processor time. On a shared machine only the second is meaningful."""

    wall: float
    processor: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.processor - other.processor)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.processor + other.processor)


def processor_seconds(pid: int) -> float:
    """Processor time used by a running process, to a hundredth of a second at best."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    told: str = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], check=True, capture_output=True, text=True).stdout
    return sum(float(part) * 60.0**place for place, part in enumerate(reversed(told.strip().split(":"))))


# ---- llama-server --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A running llama-server.

    Attributes:
        marker: placeholder of an image in a prompt.
    """

    url: str
    marker: str
    pid: int

    def post(self, path: str, body: dict[str, Any]) -> Any:
        with urllib.request.urlopen(_request(self.url + path, body), timeout=3600) as answer:
            return json.load(answer)

    def first_token(self, text: str, images: Sequence[bytes], **options: Any) -> Cost:
        """The cost of a reply's first token."""
        began = self.cost()
        with urllib.request.urlopen(
            _request(f"{self.url}/completion", _body(text, images, stream=True, **options)), timeout=3600
        ) as answer:
            for line in answer:
                if line.startswith(b"data:"):
                    cost = self.cost() - began
                    answer.read()
                    return cost
        raise SystemExit("llama-server said nothing")

    def cost(self) -> Cost:
        """The time, and the processor time that the server has used. Taken twice, they give the cost of what is between."""
        return Cost(time.perf_counter(), processor_seconds(self.pid))

    def complete(self, text: str, images: Sequence[bytes], **options: Any) -> Any:
        """A whole reply, as the server reports it."""
        return self.post("/completion", _body(text, images, **options))


@contextmanager
def server(work: Path, text: Path, mmproj: Path, *, threads: int, context: int) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    slots = work / "slots"
    slots.mkdir(exist_ok=True)
    command = [find(work, "llama-server"), "-m", text, "-mm", mmproj, "--port", port, "-t", threads, "-tb", threads, "-c", context]
    command += ["-np", 1, "--slot-save-path", slots]
    url = f"http://127.0.0.1:{port}"
    with (
        (work / "llama-server.log").open("wb") as log,
        subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment()) as process,
    ):
        try:
            began = time.perf_counter()
            while True:
                with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(f"{url}/health", timeout=10):
                    break
                if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                    raise SystemExit(f"llama-server did not start: see {log.name}")
                time.sleep(0.2)
            with urllib.request.urlopen(f"{url}/props", timeout=10) as answer:
                marker = json.load(answer)["media_marker"]
            yield Server(url, marker, process.pid)
        finally:
            process.terminate()


def _body(text: str, images: Sequence[bytes], **options: Any) -> dict[str, Any]:
    data = [base64.b64encode(image).decode() for image in images]
    prompt = {"prompt_string": text, "multimodal_data": data} if data else text
    return {"prompt": prompt, "temperature": 0, "cache_prompt": True, **options}


def _request(url: str, body: dict[str, Any]) -> urllib.request.Request:
    return urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})


# ---- llama-mtmd-cli ------------------------------------------------------------------------------------------------


def cli(work: Path, text: Path, mmproj: Path, prompt: str, images: Sequence[Path], *, threads: int, context: int, tokens: int) -> Cost:
    """The cost of a whole run, loading included."""
    command = [find(work, "llama-mtmd-cli"), "-m", text, "--mmproj", mmproj, "-t", threads, "-tb", threads, "-c", context]
    command += ["-n", tokens, "--temp", 0, "-p", prompt, "--image", ",".join(map(str, images)), "--no-warmup"]
    began = time.perf_counter()
    log = work / "llama-mtmd-cli.log"
    with log.open("wb") as told, subprocess.Popen(list(map(str, command)), stdout=told, stderr=told, env=environment()) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"llama-mtmd-cli failed: see {log}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="LLAMA_CPP")
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    build(options.source, options.work, options.jobs)


if __name__ == "__main__":
    main()
