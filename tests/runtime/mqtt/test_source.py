"""The source against a real broker: what it answers, and what it makes of hostile requests."""

import gc
import json
import queue
import struct
import subprocess
import threading
import time
import zlib
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_results import NAMES, found
from servers import mosquitto, program, wait_for

from runtime.errors import UserError
from runtime.mqtt.broker import BrokerOptions, new_client
from runtime.pipeline.frames import Frame, Result
from runtime.sources import SourceLostError, mqtt, open_source
from runtime.sources.options import MqttSourceOptions

BGR = np.random.default_rng(3).integers(0, 255, (37, 53, 3), np.uint8)
JPEG = cv2.imencode(".jpg", BGR)[1].tobytes()
TOPIC = "rkyolo/requests"


@pytest.fixture
def broker(tmp_path):
    with mosquitto(tmp_path) as server:
        yield server


def options(port: int, **more) -> MqttSourceOptions:
    more = {"name": "asked", "type": "mqtt", "broker": {"host": "127.0.0.1", "port": port}} | more
    return MqttSourceOptions.model_validate(more)


class Board:
    """A source in a thread, as the pipeline runs it; its captures come to taken."""

    def __init__(self, options: MqttSourceOptions):
        self.source = open_source(options, "board-1")
        self.stop = threading.Event()
        self.taken: queue.Queue = queue.Queue()
        self.may_take = threading.Semaphore(1000)
        self.connected = threading.Event()
        self.lost: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with closing(self.source.captures(self.stop)) as captures:
                for capture in captures:
                    if capture is None:
                        self.connected.set()
                    else:
                        self.taken.put(capture)
                        self.may_take.acquire()
        except SourceLostError as error:
            self.lost = str(error)

    def end(self) -> None:
        self.stop.set()
        self.may_take.release()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def board(broker):
    """Starts a board, connected."""
    boards = []

    def start(**more) -> Board:
        boards.append(Board(options(broker.port, **more)))
        assert boards[-1].connected.wait(10), boards[-1].lost
        return boards[-1]

    yield start
    for each in boards:
        each.end()


class Asker:
    """Anybody with an MQTT client."""

    def __init__(self, port: int):
        self.got: queue.Queue = queue.Queue()
        self._client = new_client(BrokerOptions(host="127.0.0.1", port=port), "")
        self._client.on_message = lambda client, data, message: self.got.put(message)
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe("answers/#", qos=1)
        assert subscribed.wait(10)

    def ask(self, payload: bytes, qos: int = 1, **properties: object) -> None:
        """Publish a request; returns when the broker has it."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        wanted = Properties(PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(wanted, name, value)
        self._client.publish(TOPIC, payload, qos, properties=wanted).wait_for_publish(20)

    def answer(self) -> tuple[dict, object]:
        """The next answer, and its message."""
        message = self.got.get(timeout=20)
        return json.loads(message.payload), message

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def asker(broker):
    asking = Asker(broker.port)
    yield asking
    asking.close()


def result(capture, *classes: int) -> Result:
    return Result(Frame("asked", 7, capture), found(*classes), NAMES)


# the way a request takes


def test_a_picture_and_its_answer(board, asker):
    running = board()
    before = time.time()
    asker.ask(JPEG, ResponseTopic="answers/me", CorrelationData=b"\0\xff17")
    capture = running.taken.get(timeout=10)
    assert before - 1 < capture.captured_at < time.time() + 1
    assert np.array_equal(capture.bgr, cv2.imdecode(np.frombuffer(JPEG, np.uint8), 1))
    assert asker.got.empty()
    capture.answer(result(capture, 0, 2))
    plain, message = asker.answer()
    assert (message.topic, message.qos, message.retain) == ("answers/me", 1, False)
    assert message.properties.CorrelationData == b"\0\xff17"
    assert (plain["board"], plain["source"], plain["index"]) == ("board-1", "asked", 7)
    assert (plain["width"], plain["height"]) == (53, 37)
    assert [each["name"] for each in plain["detections"]] == ["person", "a/b [red]"]


def test_it_is_not_live(broker):
    assert open_source(options(broker.port), "board-1").live is False


def test_no_more_than_the_window_at_a_time(board, asker):
    """The broker keeps the others until one is answered: that is what acknowledging late is for."""
    running = board(window=3)
    for number in range(10):
        asker.ask(JPEG, ResponseTopic="answers/me", CorrelationData=bytes([number]))
    taken = [running.taken.get(timeout=10) for _ in range(3)]
    with pytest.raises(queue.Empty):
        running.taken.get(timeout=0.5)
    seen = []
    for _ in range(10):
        capture = taken.pop(0)
        capture.answer(result(capture))
        seen.append(asker.answer()[1].properties.CorrelationData)
        if len(seen) <= 7:
            taken.append(running.taken.get(timeout=10))
    assert seen == [bytes([number]) for number in range(10)]


def test_boards_of_a_group_share_and_groups_do_not(board, asker):
    one, two, other = board(), board(), board(group="other")
    for _ in range(6):
        asker.ask(JPEG)
    for _ in range(6):
        other.taken.get(timeout=10).answer(None)
    wait_for(lambda: one.taken.qsize() + two.taken.qsize() == 6, "six pictures")
    assert one.taken.qsize() and two.taken.qsize()


def test_none_is_an_error_for_who_asked(board, asker):
    running = board()
    asker.ask(JPEG, ResponseTopic="answers/me")
    running.taken.get(timeout=10).answer(None)
    plain, message = asker.answer()
    assert plain == {"board": "board-1", "error": "this board failed at it, see its log"}
    assert not hasattr(message.properties, "CorrelationData")


# hostile and unfortunate requests


def png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    return (
        b"\x89PNG\r\n\x1a\n\0\0\0\r"
        + header
        + struct.pack(">II", zlib.crc32(header), len(pixels))
        + b"IDAT"
        + pixels
        + struct.pack(">I", zlib.crc32(b"IDAT" + pixels))
    )


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        pytest.param(b"", "this is no JPEG, PNG or WebP picture", id="empty"),
        pytest.param(b"hello", "this is no JPEG, PNG or WebP picture", id="text"),
        pytest.param(JPEG[:30], "this is no JPEG, PNG or WebP picture", id="cut-off"),
        pytest.param(png(53, 37)[:45], "this picture is damaged", id="header-only"),
        pytest.param(
            png(30_000, 30_000), "a picture of 30000x30000: at most 32 megapixels", id="bomb"
        ),
        pytest.param(
            JPEG + bytes(2_000_000),
            f"a picture of {len(JPEG) + 2_000_000} bytes: at most 2 MB",
            id="too-large",
        ),
    ],
)
def test_what_is_no_picture(board, asker, payload, error):
    running = board(largest_mb=2)
    asker.ask(payload, ResponseTopic="answers/me", CorrelationData=b"1")
    plain, message = asker.answer()
    assert plain["board"] == "board-1"
    assert plain["error"].startswith(error)
    assert message.properties.CorrelationData == b"1"
    asker.ask(JPEG)
    assert running.taken.get(timeout=10).bgr.shape == (37, 53, 3)


def test_a_hundred_megabytes_do_not_arrive(board, asker, broker, tmp_path):
    running = board()
    asker.ask(bytes(100_000_000), ResponseTopic="answers/me")
    log = tmp_path / "mosquitto.log"
    wait_for(lambda: "Dropping too large outgoing PUBLISH" in log.read_text(), "the drop", 30)
    asker.ask(JPEG)
    assert running.taken.get(timeout=20).bgr.shape == (37, 53, 3)
    assert asker.got.empty()


def test_it_recovers_from_a_broker_that_stops_sending(board, asker, monkeypatch):
    """mosquitto 2.0.11 counts what it dropped as under way, for as long as the connection lasts."""
    monkeypatch.setattr(mqtt, "_REFRESH_S", 1.0)
    running = board(window=2, largest_mb=0.01)
    for _ in range(4):
        asker.ask(bytes(500_000), ResponseTopic="answers/me")
    deadline = time.monotonic() + 20
    while running.taken.empty() and time.monotonic() < deadline:
        asker.ask(JPEG, ResponseTopic="answers/me")
        time.sleep(0.5)  # a request that came while a connection was exchanged may be lost
    assert running.taken.get(timeout=1).bgr.shape == (37, 53, 3)
    assert running.lost is None


def test_only_an_idle_connection_is_renewed(board, asker, tmp_path, monkeypatch):
    def connections() -> int:
        return (tmp_path / "mosquitto.log").read_text().count("New client connected")

    monkeypatch.setattr(mqtt, "_REFRESH_S", 0.5)
    running = board(window=1)
    asker.ask(JPEG, ResponseTopic="answers/me")
    capture = running.taken.get(timeout=10)
    before = connections()
    time.sleep(1.5)
    assert connections() == before
    capture.answer(result(capture, 0))
    assert asker.answer()[0]["detections"]
    wait_for(lambda: connections() > before + 1, "the second new connection")
    assert running.lost is None


@pytest.mark.parametrize(
    "topic",
    [
        "answers/+",
        "answers/#",
        "#",
        "$SYS/broker",
        "$share/rkyolo/rkyolo/requests",
        "a" * 60_000,
        "/" * 300,  # a broker ends the connection of who publishes there
    ],
)
def test_topics_that_cannot_be_answered_to(board, asker, topic):
    running = board(window=1)
    asker.ask(JPEG, ResponseTopic=topic)
    capture = running.taken.get(timeout=10)
    capture.answer(result(capture, 0))
    # it is acknowledged, or the next would not come
    asker.ask(JPEG, ResponseTopic="answers/me")
    capture = running.taken.get(timeout=10)
    capture.answer(result(capture, 0))
    assert asker.answer()[1].topic == "answers/me"
    assert running.lost is None


def test_no_topic_to_answer_to(board, asker):
    running = board(window=1)
    for payload in (JPEG, b"no picture", JPEG):
        asker.ask(payload)
    for _ in range(2):
        capture = running.taken.get(timeout=10)
        capture.answer(result(capture, 0))
    assert asker.got.empty()


@pytest.mark.parametrize("length", [0, 1, 10_000, 65_535])
def test_any_correlation_data_comes_back(board, asker, length):
    running = board()
    asker.ask(JPEG, ResponseTopic="answers/me", CorrelationData=b"\xfe" * length)
    capture = running.taken.get(timeout=10)
    capture.answer(result(capture, 0))
    assert asker.answer()[1].properties.CorrelationData == b"\xfe" * length


def test_an_answer_taken_for_a_request_is_not_answered(board, asker):
    """Else one request could keep boards busy for ever."""
    running = board()
    asker.ask(JPEG, ResponseTopic=TOPIC, CorrelationData=b"1")
    capture = running.taken.get(timeout=10)
    capture.answer(result(capture, 0))
    asker.ask(JPEG, ResponseTopic="answers/me")
    capture = running.taken.get(timeout=10)
    capture.answer(result(capture, 0))
    assert asker.answer()[0]["detections"]
    assert running.taken.empty() and asker.got.empty()


def test_a_flood_without_acknowledgements_is_dropped(board, asker, caplog):
    """Of QoS 0 the broker sends all there is; memory is bounded here."""
    running = board(window=3)
    running.may_take = threading.Semaphore(0)
    for _ in range(200):
        asker.ask(JPEG, qos=0)
    asker.ask(JPEG, qos=1, ResponseTopic="answers/me")
    wait_for(lambda: "publish QoS 1" in caplog.text, "the warning")
    running.may_take.release(1000)
    wait_for(lambda: _drained(running, asker), "the answer to the last")
    assert caplog.text.count("publish QoS 1") == 1


def _drained(running: Board, asker: Asker) -> bool:
    while not running.taken.empty():
        capture = running.taken.get()
        capture.answer(result(capture))
    return not asker.got.empty()


def test_who_asked_went_away(board, broker, asker):
    running = board(window=1)
    gone = Asker(broker.port)
    gone.ask(JPEG, ResponseTopic="gone/me")
    gone.close()
    capture = running.taken.get(timeout=10)
    capture.answer(result(capture, 0))
    asker.ask(JPEG, ResponseTopic="answers/me")
    capture = running.taken.get(timeout=10)
    capture.answer(result(capture, 0))
    assert asker.answer()[0]["detections"]


def test_an_answer_larger_than_the_broker_takes(tmp_path):
    with mosquitto(tmp_path, "max_packet_size 20000") as broker:
        running, asker = Board(options(broker.port)), Asker(broker.port)
        assert running.connected.wait(20)
        asker.ask(JPEG, ResponseTopic="answers/me", CorrelationData=b"1")
        capture = running.taken.get(timeout=10)
        capture.answer(result(capture, *[0] * 300))
        plain, _ = asker.answer()
        assert plain == {"board": "board-1", "error": "the answer is larger than the broker takes"}
        assert running.lost is None
        asker.close()
        running.end()


# the connection


def test_the_broker_goes_away(board, broker, asker):
    running = board()
    asker.ask(JPEG, ResponseTopic="answers/me")
    capture = running.taken.get(timeout=10)
    broker.kill()
    wait_for(lambda: running.lost, "the loss")
    assert running.lost == f"127.0.0.1:{broker.port}: the connection is lost"
    capture.answer(result(capture, 0))  # does nothing, and does not raise
    broker.start()
    again, asking = board(), Asker(broker.port)
    capture.answer(result(capture, 0))
    asking.ask(JPEG, ResponseTopic="answers/me")
    again.taken.get(timeout=10).answer(None)
    assert "error" in asking.answer()[0]
    asking.close()


def test_lost_while_the_pipeline_is_busy(board, broker, asker):
    running = board()
    running.may_take = threading.Semaphore(0)
    asker.ask(JPEG)
    asker.ask(JPEG)
    running.taken.get(timeout=10)
    broker.kill()
    time.sleep(0.3)  # the source is in the pipeline's hands, and cannot say so yet
    assert running.lost is None
    running.may_take.release(10)
    wait_for(lambda: running.lost, "the loss")


def test_nobody_there():
    source = open_source(options(1), "board-1")
    with pytest.raises(SourceLostError, match=r"^127\.0\.0\.1:1: connection refused$"):
        next(source.captures(threading.Event()))


def test_a_name_that_is_none():
    source = open_source(options(1883, broker={"host": "a..b"}), "board-1")
    with pytest.raises(SourceLostError, match=r"^a\.\.b:1883: "):
        next(source.captures(threading.Event()))


@pytest.fixture
def guarded(tmp_path):
    """A broker that wants a password."""
    passwords = tmp_path / "passwords"
    command = [program("mosquitto_passwd"), "-c", "-b", str(passwords), "board", "s3cret"]
    subprocess.run(command, check=True, timeout=20)
    passwords.chmod(0o600)
    with mosquitto(tmp_path, f"password_file {passwords}") as server:
        yield server


def test_a_wrong_password_may_be_mended(guarded):
    wrong = {"host": "127.0.0.1", "port": guarded.port, "username": "board", "password": "hunter2"}
    source = open_source(options(guarded.port, broker=wrong), "board-1")
    with pytest.raises(SourceLostError) as caught:
        next(source.captures(threading.Event()))
    assert str(caught.value) == (
        f"127.0.0.1:{guarded.port}: the broker refuses the connection: not authorized;"
        " check username and password, or the broker's access list"
    )
    right = wrong | {"password": "s3cret"}
    source = open_source(options(guarded.port, broker=right), "board-1")
    with closing(source.captures(threading.Event())) as captures:
        assert next(captures) is None


def test_answers_go_only_where_they_may(board, asker):
    running = board(window=1, answer_prefix="answers/mine/")
    for topic in ("answers/me", "answers/min", "answers/mine/1"):
        asker.ask(JPEG, ResponseTopic=topic)
        capture = running.taken.get(timeout=10)
        capture.answer(result(capture, 0))
    assert asker.answer()[1].topic == "answers/mine/1"
    assert asker.got.empty()


# what paho leaves open when a handshake fails, Python closes and complains
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_where_the_broker_has_none(broker):
    where = {"host": "127.0.0.1", "port": broker.port, "tls": {}}
    source = open_source(options(broker.port, broker=where), "board-1")
    with pytest.raises(SourceLostError, match=rf"^127\.0\.0\.1:{broker.port}: "):
        next(source.captures(threading.Event()))
    gc.collect()


def test_certificates_that_cannot_be_read(tmp_path):
    where = {"host": "127.0.0.1", "tls": {"ca": str(tmp_path / "none.pem")}}
    source = open_source(options(1, broker=where), "board-1")
    with pytest.raises(UserError, match="TLS certificates cannot be used"):
        next(source.captures(threading.Event()))


# the end


def test_the_end_waits_a_moment_for_answers(board, asker):
    running = board()
    asker.ask(JPEG, ResponseTopic="answers/me")
    capture = running.taken.get(timeout=10)
    running.stop.set()
    threading.Timer(0.3, lambda: capture.answer(result(capture, 0))).start()
    assert asker.answer()[0]["detections"]
    running.end()


def test_the_end_does_not_wait_for_long(board, asker):
    running = board()
    asker.ask(JPEG, ResponseTopic="answers/me")
    capture = running.taken.get(timeout=10)
    began = time.monotonic()
    running.end()
    assert time.monotonic() - began < 5
    capture.answer(result(capture, 0))
    assert asker.got.empty()


def test_what_the_end_cut_off_is_left_to_another_board(board, asker):
    running = board()
    asker.ask(JPEG, ResponseTopic="answers/me")
    capture = running.taken.get(timeout=10)
    running.stop.set()
    capture.answer(None)
    running.end()
    assert asker.got.empty()


def test_nothing_is_left_open(broker):
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    source = open_source(options(broker.port), "board-1")
    gc.collect()
    threads = threading.active_count()
    before = open_files()
    for _ in range(5):
        with closing(source.captures(threading.Event())) as captures:
            assert next(captures) is None
    assert (open_files(), threading.active_count()) == (before, threads)
