"""The client against a real broker, with boards that do as each test says."""

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from servers import free_port, mosquitto, program, wait_for

from runtime.errors import UserError
from runtime.mqtt.broker import BrokerOptions, new_client
from runtime.mqtt.command import broker_of
from runtime.mqtt.reply import Tally
from runtime.mqtt.request import request

ROOT = Path(__file__).resolve().parents[3]
TOPIC = "rkyolo/requests"
BGR = np.random.default_rng(3).integers(0, 255, (37, 53, 3), np.uint8)
JPEG = cv2.imencode(".jpg", BGR)[1].tobytes()
FOUND = {"box": [1, 2, 3, 4], "score": 0.5, "class": 0, "name": "circle"}
GOOD = {"board": "made", "source": "q", "width": 53, "height": 37, "detections": [FOUND]}


class MadeBoard:
    """A subscriber that answers a request with whatever reply gives for it: a list of payloads."""

    def __init__(self, port: int, reply: Callable[[bytes], list[bytes]]):
        self.requests: list[bytes] = []
        self._reply = reply
        self._client = new_client(BrokerOptions(host="127.0.0.1", port=port), "")
        self._client.on_message = self._on_message
        self.client_lock = threading.Lock()
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_connect = lambda client, *_: client.subscribe(f"$share/g/{TOPIC}", 1)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(10)

    def _on_message(self, client, data, message) -> None:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        self.requests.append(message.payload)
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = message.properties.CorrelationData
        for payload in self._reply(message.payload):
            client.publish(message.properties.ResponseTopic, payload, 1, properties=properties)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path):
    with mosquitto(tmp_path) as server:
        yield server


@pytest.fixture
def made_board(broker):
    boards = []

    def start(reply: Callable[[bytes], list[bytes]]) -> MadeBoard:
        boards.append(MadeBoard(broker.port, reply))
        return boards[-1]

    yield start
    for each in boards:
        each.close()


def good(payload: bytes, **more) -> list[bytes]:
    """A good answer, which tells what it is the answer to."""
    return [json.dumps(GOOD | {"length": len(payload)} | more).encode()]


def where(broker) -> BrokerOptions:
    return BrokerOptions(host="127.0.0.1", port=broker.port)


# the function


def test_answers_come_in_the_order_of_the_pictures(broker, made_board):
    """Also where boards answer in another."""
    held: list[bytes] = []

    def reply(payload: bytes) -> list[bytes]:
        return [] if len(payload) == 1 and not held.append(payload) else good(payload)

    made_board(reply)
    tally = Tally()
    pictures = [b"x" * length for length in (1, 2, 3, 4, 5)]
    answers = request(where(broker), pictures, timeout_s=1, attempts=2, tally=tally)
    found = list(answers)
    assert [answer.plain.get("length") for answer in found] == [None, 2, 3, 4, 5]
    assert [answer.name for answer in found] == [f"picture {number}" for number in range(5)]
    assert found[0].error == "no answer after 2 tries"
    assert (tally.answers, tally.failed, tally.resends) == (4, 1, 1)


def test_an_unanswered_picture_is_sent_again(broker, made_board):
    seen: set[bytes] = set()

    def reply(payload: bytes) -> list[bytes]:
        first = payload not in seen
        seen.add(payload)
        return [] if first and payload == b"xx" else good(payload)

    board = made_board(reply)
    tally = Tally()
    found = list(request(where(broker), [b"x", b"xx", b"xxx"], timeout_s=0.5, tally=tally))
    assert [answer.plain["length"] for answer in found] == [1, 2, 3]
    assert sorted(board.requests) == [b"x", b"xx", b"xx", b"xxx"]
    assert (tally.resends, tally.duplicates, tally.failed) == (1, 0, 0)


def test_duplicates_are_dropped_and_counted(broker, made_board):
    made_board(lambda payload: good(payload) * 3)
    tally = Tally()
    found = list(request(where(broker), [b"x", b"xx", b"xxx"], window=1, tally=tally))
    assert [answer.plain["length"] for answer in found] == [1, 2, 3]
    assert tally.answers == 3
    assert 4 <= tally.duplicates <= 6  # those after the last answer may come too late to count


def test_pictures_are_asked_for_while_there_is_room(broker, made_board):
    made_board(good)
    asked = itertools.count()
    most = 0
    given = 0

    def pictures():
        for _ in range(200):
            yield b"x" * (next(asked) + 1)

    for number, answer in enumerate(request(where(broker), pictures(), window=8)):
        given = number + 1
        assert answer.plain["length"] == given
        most = max(most, next(asked) - given)
        asked = itertools.count(next(asked) - 1)
    assert given == 200
    assert most <= 12


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"1" * 10_000,
        b"[" * 100_000,
        b'{"board": "made"}',
        b'{"board": 1, "error": "x"}',
        b'{"board": "made", "detections": [], "width": 5, "height": "tall"}',
        b'{"board": "made", "detections": [{}], "width": 5, "height": 5}',
        b'{"board": "made", "detections": 7, "width": 5, "height": 5}',
    ],
)
def test_answers_that_are_none(broker, made_board, payload):
    made_board(lambda _: [payload])
    tally = Tally()
    (answer,) = request(where(broker), [b"x"], tally=tally)
    assert answer.error == "what came for an answer is none"
    assert (answer.board, answer.plain, tally.failed) == (None, {}, 1)


def test_the_boards_error_is_the_answers(broker, made_board):
    made_board(lambda _: [b'{"board": "made", "error": "this picture is damaged"}'])
    (answer,) = request(where(broker), [b"x"])
    assert (answer.board, answer.error) == ("made", "this picture is damaged")


def test_nobody_is_subscribed(broker):
    tally = Tally()
    with pytest.raises(UserError, match=r"^no board is subscribed to rkyolo/requests: start "):
        list(request(where(broker), [b"x"], tally=tally))


def test_the_last_board_goes_and_another_comes(broker, made_board):
    """Once there was one, it is waited for."""
    first = made_board(good)
    pictures = [b"x" * length for length in range(1, 5)]
    answers = request(where(broker), pictures, window=1, timeout_s=0.5, attempts=30)
    assert next(answers).plain["length"] == 1
    first.close()
    threading.Timer(1.0, lambda: made_board(good)).start()
    tally = [answer.plain["length"] for answer in answers]
    assert tally == [2, 3, 4]


def test_no_board_comes_back(broker, made_board):
    first = made_board(good)
    answers = request(where(broker), [b"x", b"xx"], window=1, timeout_s=0.2, attempts=3)
    assert next(answers).plain["length"] == 1
    first.close()
    assert next(answers).error == f"no board is subscribed to {TOPIC}"


def test_the_broker_goes_and_comes_back(broker, made_board):
    """With requests under way, which it forgets."""
    silent = threading.Event()
    board = made_board(lambda payload: good(payload) if silent.is_set() else [])
    tally = Tally()
    found: list = []
    pictures = [b"x" * length for length in range(1, 9)]
    asking = threading.Thread(
        target=lambda: found.extend(request(where(broker), pictures, window=4, tally=tally))
    )
    asking.start()
    wait_for(lambda: len(board.requests) == 4, "four requests")
    broker.kill()
    silent.set()
    broker.start()
    asking.join(40)
    assert not asking.is_alive()
    assert [answer.plain["length"] for answer in found] == list(range(1, 9))
    assert tally.resends >= 4


def test_a_broker_that_stays_away(broker, made_board, monkeypatch):
    monkeypatch.setattr("runtime.mqtt.request._PATIENCE_S", 1.0)
    made_board(good)
    answers = request(where(broker), [b"x", b"xx"], window=1)
    next(answers)
    broker.kill()
    with pytest.raises(UserError, match=r": connection refused: given up after 1 s$"):
        next(answers)


def test_a_picture_larger_than_the_broker_takes(tmp_path):
    with mosquitto(tmp_path, "max_packet_size 20000") as broker:
        board = MadeBoard(broker.port, good)
        found = list(request(where(broker), [b"x", bytes(20_000), b"xxx"]))
        assert [answer.plain.get("length") for answer in found] == [1, None, 3]
        assert found[1].error == "it has 20000 bytes, and the broker takes at most 20000"
        board.close()


def test_files_of_any_format(broker, made_board, tmp_path):
    """What boards do not take is sent as PNG."""
    board = made_board(good)
    for name in ("a.jpg", "b.bmp"):
        cv2.imwrite(str(tmp_path / name), BGR)
    (tmp_path / "c.bmp").write_bytes(b"BM no picture")
    files = [tmp_path / name for name in ("a.jpg", "b.bmp", "c.bmp", "d.jpg")]
    found = list(request(where(broker), files))
    assert [answer.name for answer in found] == list(map(str, files))
    assert [answer.error for answer in found] == [
        None,
        None,
        "it cannot be read as a picture: it is damaged",
        "cannot read it: no such file or directory",
    ]
    sent = sorted(board.requests)
    assert sent[1] == files[0].read_bytes()
    assert sent[0].startswith(b"\x89PNG")
    assert np.array_equal(cv2.imdecode(np.frombuffer(sent[0], np.uint8), 1), BGR)


def test_closing_early_disconnects(broker, made_board):
    made_board(good)
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    answers = request(where(broker), itertools.repeat(b"x"))
    next(answers)
    answers.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# the broker's address


@pytest.mark.parametrize(
    ("text", "address", "username", "password"),
    [
        ("pi", ("pi", 1883), None, None),
        ("pi:1884", ("pi", 1884), None, None),
        ("mqtt://pi", ("pi", 1883), None, None),
        ("mqtt://pi:1884/", ("pi", 1884), None, None),
        ("mqtts://pi", ("pi", 8883), None, None),
        ("me@pi", ("pi", 1883), "me", None),
        ("mqtt://me:se%40cret@pi:1", ("pi", 1), "me", "se@cret"),
        ("mqtt://[::1]:1884", ("::1", 1884), None, None),
    ],
)
def test_addresses(text, address, username, password):
    found = broker_of(text)
    assert (found.address, found.username) == (address, username)
    assert (found.password and found.password.get_secret_value()) == password
    assert (found.tls is not None) == text.startswith("mqtts")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "://",
        "http://pi",
        "mqtt://",
        "mqtt://pi:port",
        "mqtt://pi:99999",
        "mqtt://me:hunter2@",
        "mqtt://me:hunter2@pi/topic",
        "mqtt://me:hunter2@pi:x",
        "mqtt://:hunter2@pi",
        "mqtt://me:hunter2@[pi",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(UserError) as caught:
        broker_of(text)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).startswith(("this is no broker's address: give mqtt://", "a password"))


# the command


@pytest.fixture
def picture(tmp_path) -> Path:
    cv2.imwrite(str(tmp_path / "a.jpg"), BGR)
    return tmp_path / "a.jpg"


def test_lines_for_people(broker, made_board, picture, rkyolo):
    made_board(good)
    done = rkyolo("request", f"127.0.0.1:{broker.port}", picture)
    assert done.stdout == f"{picture} 53x37: 1 circle (made)\n"
    assert done.stderr == (
        "1 pictures, 1 answers, 0 sent again, 0 duplicates dropped; boards: made 1\n"
    )
    assert done.returncode == 0


def test_lines_for_machines(broker, made_board, picture, rkyolo, tmp_path):
    made_board(lambda payload: good(payload, file="/etc/passwd"))
    target = tmp_path / "found.jsonl"
    done = rkyolo("request", f"127.0.0.1:{broker.port}", picture, picture, "--json", target)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert lines == [{"file": str(picture)} | GOOD | {"length": picture.stat().st_size}] * 2


def test_names_cannot_command_the_terminal(broker, made_board, picture, rkyolo):
    evil = [FOUND | {"name": "\x1b[2J\nevil"}]
    made_board(lambda payload: good(payload, board="b\x1b", detections=evil))
    done = rkyolo("request", f"127.0.0.1:{broker.port}", picture)
    assert done.stdout == f"{picture} 53x37: 1 ?[2J?evil (b?)\n"
    assert "\x1b" not in done.stderr


def test_a_picture_without_an_answer_is_exit_1(broker, made_board, picture, rkyolo):
    made_board(lambda _: [b'{"board": "made", "error": "this picture is damaged"}'])
    done = rkyolo("request", f"127.0.0.1:{broker.port}", picture, "--json", "-")
    assert json.loads(done.stdout) == {
        "file": str(picture),
        "board": "made",
        "error": "this picture is damaged",
    }
    assert done.stderr.splitlines()[-1] == "1 of 1 pictures have no detections"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["127.0.0.1:{free}", "{picture}"], "error: 127.0.0.1:{free}: connection refused"),
        (["http://pi", "{picture}"], "error: this is no broker's address: give mqtt://"),
        (["127.0.0.1:{port}", "{picture}.gone"], "does not exist"),
        (["127.0.0.1:{port}", "{video}"], "shapes.mp4 is a video: give pictures"),
        (["127.0.0.1:{port}", "{picture}", "--topic", "a/#"], "error: --topic a/# is none"),
        (["127.0.0.1:{port}", "{picture}"], "error: no board is subscribed to rkyolo/requests"),
        (["me@pi", "{picture}", "--password-env", "NOT_SET"], "NOT_SET is not set"),
        (["me@pi", "{picture}", "--password-file", "/gone"], "file /gone cannot be read"),
        (["pi", "{picture}", "--password-env", "HOME"], "error: a password needs a user"),
        (["mqtt://pi", "{picture}", "--ca", "x.pem"], "error: --ca is for mqtts"),
        (["mqtts://pi", "{picture}", "--ca", "/gone"], "TLS certificates cannot be used"),
    ],
)
def test_bad_input_is_exit_2(broker, picture, demo, rkyolo, arguments, message):
    known = {"port": broker.port, "free": free_port(), "picture": picture}
    known["video"] = demo / "shapes.mp4"
    done = rkyolo("request", *(each.format(**known) for each in arguments))
    assert done.returncode == 2
    assert message.format(**known) in done.stderr
    assert "Traceback" not in done.stderr


def test_passwords_are_not_shown(tmp_path, picture, rkyolo):
    passwords = tmp_path / "passwords"
    command = [program("mosquitto_passwd"), "-c", "-b", str(passwords), "me", "s3cret"]
    subprocess.run(command, check=True, timeout=20)
    passwords.chmod(0o600)
    with mosquitto(tmp_path, f"password_file {passwords}") as broker:
        done = rkyolo("request", f"mqtt://me:hunter2@127.0.0.1:{broker.port}", picture)
        assert done.returncode == 2
        assert "not authorized; check username and password" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout
        # the right one gets as far as the topic
        given = {"env": os.environ | {"MQTT_PASSWORD": "s3cret"}}
        user = f"mqtt://me:hunter2@127.0.0.1:{broker.port}"
        done = rkyolo("request", user, picture, "--password-env", "MQTT_PASSWORD", **given)
        assert "no board is subscribed" in done.stderr
        assert "s3cret" not in done.stderr


def test_who_may_not_publish_is_told(tmp_path):
    rules = tmp_path / "rules"
    rules.write_text("topic read #\n")
    rules.chmod(0o600)
    with mosquitto(tmp_path, f"acl_file {rules}", "allow_anonymous true") as broker:
        with pytest.raises(UserError, match=r"^the broker does not let this user publish to "):
            list(request(where(broker), [b"x"]))


def test_interrupted_twice(broker, made_board, picture):
    board = made_board(lambda _: [])
    code = "from runtime.cli import main; main()"
    asking = subprocess.Popen(
        [sys.executable, "-c", code, "request", f"127.0.0.1:{broker.port}", str(picture)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    wait_for(lambda: board.requests, "the request", 60)
    asking.send_signal(signal.SIGINT)
    asking.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, err = asking.communicate(timeout=30)
    assert asking.returncode == 130
    assert time.monotonic() - began < 10
    assert out == ""
    assert err == "1 pictures, 0 answers, 0 sent again, 0 duplicates dropped; boards: none\n"
