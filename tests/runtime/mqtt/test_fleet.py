"""Two daemons on one shared subscription, and the client."""

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from daemons import Daemon, daemon
from servers import Server, mosquitto, wait_for

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-c", "from runtime.cli import main; main()", "request"]


@pytest.fixture
def pictures(tmp_path, demo):
    """Makes a folder of so many pictures: the demo's forty, again and again."""

    def make(count: int) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        there = sorted((demo / "calibration").iterdir())
        for number in range(count):
            (folder / f"{number:04d}.jpg").symlink_to(there[number % len(there)])
        return folder

    return make


@pytest.fixture
def broker(tmp_path):
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as server:
        yield server


@pytest.fixture
def boards(tmp_path, broker, bundle):
    """Two daemons that take pictures, "one" and "two"."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(board(name, tmp_path, broker, bundle))
            for name in ("one", "two")
        }


@contextmanager
def board(name: str, tmp_path: Path, broker: Server, bundle: Path) -> Iterator[Daemon]:
    folder = tmp_path / name
    folder.mkdir()
    where = {"host": "127.0.0.1", "port": broker.port, "keepalive_s": 4}
    asked = {"name": "asked", "type": "mqtt", "broker": where}
    config = {
        "model": str(bundle),
        "board": name,
        "engine": {"backend": "onnxruntime", "contexts_per_core": 1},
        "sources": [asked],
        "drain_s": 5,
    }
    with daemon(config, folder) as running:
        wait_for(lambda: running.source("asked")["state"] == "running", "the subscription")
        yield running


class Client:
    """rkyolo request on a folder; killed where it takes too long."""

    def __init__(self, broker: Server, pictures: Path, log: Path, *options: object):
        self._log = log
        command = [*COMMAND, f"localhost:{broker.port}", str(pictures), "--json", "-"]
        with log.open("w") as stream:
            self._process = subprocess.Popen(
                [*command, *map(str, options)], stdout=subprocess.PIPE, stderr=stream, cwd=ROOT
            )
        self._timer = threading.Timer(240, self._process.kill)
        self._timer.start()
        self.answers: list[dict] = []

    def read(self, count: int) -> None:
        """Wait for so many answers."""
        for _ in range(count):
            self.answers.append(json.loads(self._process.stdout.readline()))

    def end(self) -> str:
        """Wait for the other answers and the end. Returns the last line it said of them."""
        self.answers += [json.loads(line) for line in self._process.stdout]
        self._process.stdout.close()
        self._process.wait()
        self._timer.cancel()
        assert self._process.returncode == 0, self._log.read_text()
        return self._log.read_text().splitlines()[-1]


@pytest.fixture
def client(tmp_path, broker):
    """Starts a client."""
    return lambda pictures, *options: Client(broker, pictures, tmp_path / "client.log", *options)


def what(found: list[dict]) -> list[tuple]:
    return [(each["class"], each["score"], *each["box"]) for each in found]


def names(pictures: Path) -> list[str]:
    return sorted(map(str, pictures.iterdir()))


def test_a_thousand_pictures(client, boards, pictures, bundle, demo, rkyolo):
    folder = pictures(1000)
    asking = client(folder)
    summary = asking.end()
    answers = asking.answers
    assert [answer["file"] for answer in answers] == names(folder)
    per_board = Counter(answer["board"] for answer in answers)
    assert set(per_board) == {"one", "two"} and min(per_board.values()) > 100, per_board
    assert summary == (
        "1000 pictures, 1000 answers, 0 sent again, 0 duplicates dropped;"
        f" boards: one {per_board['one']}, two {per_board['two']}"
    )
    for name, running in boards.items():
        state = running.source("asked")
        assert (state["results"], state["failed"]) == (per_board[name], 0)
        indices = [answer["index"] for answer in answers if answer["board"] == name]
        assert sorted(indices) == list(range(per_board[name]))
    # an answer is what the same model finds in that picture here
    here = rkyolo("detect", bundle, demo / "calibration", "--json", "-", "--backend", "onnxruntime")
    expected = [what(json.loads(line)["detections"]) for line in here.stdout.splitlines()]
    assert sum(map(len, expected)) > 40
    assert [what(answer["detections"]) for answer in answers] == expected * (1000 // len(expected))


def test_a_board_is_killed_half_way(client, boards, pictures):
    folder = pictures(1000)
    asking = client(folder, "--timeout", 2)
    asking.read(500)
    boards["two"].process.send_signal(signal.SIGKILL)
    boards["two"].process.wait(10)
    summary = asking.end()
    assert [answer["file"] for answer in asking.answers] == names(folder)
    assert not any("error" in answer for answer in asking.answers)
    per_board = Counter(answer["board"] for answer in asking.answers)
    assert min(per_board["one"], per_board["two"]) > 100, per_board
    assert summary.startswith("1000 pictures, 1000 answers, "), summary


def test_a_board_falls_silent(client, boards, pictures):
    """As without power: the broker sends it its share until it misses a sign of life."""
    folder = pictures(200)
    asking = client(folder, "--timeout", 3, "--attempts", 8)
    asking.read(100)
    boards["two"].process.send_signal(signal.SIGSTOP)
    asking.end()
    assert [answer["file"] for answer in asking.answers] == names(folder)
    assert not any("error" in answer for answer in asking.answers)


def test_a_board_ends_as_told(client, boards, pictures):
    folder = pictures(200)
    asking = client(folder, "--timeout", 2)
    asking.read(100)
    assert boards["two"].end() == 0
    asking.end()
    assert [answer["file"] for answer in asking.answers] == names(folder)
    assert not any("error" in answer for answer in asking.answers)


def test_the_broker_is_killed(broker, client, boards, pictures):
    folder = pictures(400)
    asking = client(folder, "--timeout", 2)
    asking.read(100)
    broker.kill()
    broker.start()
    asking.end()
    assert [answer["file"] for answer in asking.answers] == names(folder)
    assert not any("error" in answer for answer in asking.answers)
    assert {answer["board"] for answer in asking.answers[200:]} == {"one", "two"}
    for running in boards.values():
        assert running.source("asked")["connections"] >= 2
