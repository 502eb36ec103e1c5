"""The sink against a real broker, also while broker and process are killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import ClassVar

import pytest
from made_results import ROOT, found, full_after, result
from pydantic import ValidationError
from servers import free_port, mosquitto, wait_for
from subscriber import cut_off, first_arrivals, subscriber

from runtime.detections import Detections
from runtime.errors import UserError
from runtime.mqtt.broker import BrokerOptions
from runtime.sinks import SinkLostError, open_sink
from runtime.sinks.options import MqttSinkOptions

EVENTS = 5000
BROKER_KILLS = 10
CHILD_KILLS = 2

CHILD = """
import json, sys, time
from made_results import result
from runtime.sinks import open_sink
from runtime.sinks.options import MqttSinkOptions

options, first, last = MqttSinkOptions(**json.loads(sys.argv[1])), *map(int, sys.argv[2:])
sink = open_sink(options, "board")
for index in range(first, last):
    sink.write(result(index, source="door" if index % 3 else "yard"))
    print(index, flush=True)
    time.sleep(0.0005)
while sink.state()["outbox"]:
    time.sleep(0.01)
sink.close()
"""


@pytest.fixture(autouse=True)
def no_child_stays():
    yield
    for child in Child.started:
        child.process.kill()
        child.process.wait(10)
    Child.started.clear()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "broker"
    folder.mkdir()
    return folder


def options(tmp_path, port, **more):
    plain = {"type": "mqtt", "broker": {"host": "127.0.0.1", "port": port}}
    return plain | {"outbox": str(tmp_path / "outbox.db")} | more


@contextmanager
def sink(tmp_path, port, **more):
    made = open_sink(MqttSinkOptions(**options(tmp_path, port, **more)), "board")
    try:
        yield made
    finally:
        made.close()


def at(server):
    return BrokerOptions(host="127.0.0.1", port=server.port)


def wait_until_sent(mqtt):
    wait_for(lambda: mqtt.state()["outbox"] == 0, f"an empty outbox: {mqtt.state()}")


def test_an_event_says_what_was_found_where(tmp_path, folder):
    with mosquitto(folder) as server, subscriber(at(server)) as listener:
        with sink(tmp_path, server.port) as mqtt:
            mqtt.write(result(7, source="yard"))
            wait_for(listener.events, "the event")
        (message,) = (m for m in listener.messages if m.topic.endswith("/detections"))
    assert message.topic == "rkyolo/board/yard/detections"
    assert (message.qos, message.retain) == (1, False)
    event = json.loads(message.payload)
    assert list(event)[:4] == ["id", "board", "source", "index"]
    assert (event["board"], event["source"], event["index"]) == ("board", "yard", 7)
    assert [one["name"] for one in event["detections"]] == ["person"]
    assert (event["width"], event["height"]) == (64, 48)


@pytest.mark.parametrize(
    ("more", "indices"),
    [
        pytest.param({}, [1, 4], id="frames with something"),
        pytest.param({"empty": True}, [0, 1, 2, 3, 4], id="all frames"),
        pytest.param({"home_assistant": "ha"}, [1, 2, 4], id="and the first with nothing again"),
    ],
)
def test_frames_in_which_nothing_was_found(tmp_path, folder, more, indices):
    nothing = Detections.empty()
    with mosquitto(folder) as server, subscriber(at(server)) as listener:
        with sink(tmp_path, server.port, **more) as mqtt:
            for index in range(5):
                mqtt.write(result(index, detections=found(0) if index in (1, 4) else nothing))
            wait_until_sent(mqtt)
        wait_for(lambda: len(listener.events()) == len(indices), "the events")
        assert [event["index"] for event in listener.events()] == indices


def test_boards_share_a_broker_under_one_scheme(tmp_path, folder):
    with mosquitto(folder) as server:
        with subscriber(at(server), "site/+/+/detections") as listener:
            for board in ("north", "south"):
                plain = options(tmp_path / board, server.port, prefix="site")
                made = open_sink(MqttSinkOptions(**plain), board)
                made.write(result())
                wait_until_sent(made)
                made.close()
            wait_for(lambda: len(listener.messages) == 2, "both")
            topics = [message.topic for message in listener.messages]
            assert topics == ["site/north/door/detections", "site/south/door/detections"]
        with subscriber(at(server), "site/+/state") as listener:
            wait_for(lambda: len(listener.messages) >= 2, "the states, which are kept")
            assert listener.last("site/north/state") == b"offline"
            assert listener.last("site/south/state") == b"offline"


def test_home_assistant_is_told_of_each_source_at_each_connection(tmp_path, folder):
    with mosquitto(folder) as server:
        with sink(tmp_path, server.port, home_assistant="ha", sources=("door",)) as mqtt:
            mqtt.write(result(source="yard"))
            wait_until_sent(mqtt)
            server.kill()
            (folder / "mosquitto.db").unlink(missing_ok=True)
            server.start()
            with subscriber(at(server), "ha/#") as listener:
                wait_for(lambda: len(listener.messages) >= 2, "the announcements")
                found_topics = {message.topic for message in listener.messages}
                assert found_topics == {
                    "ha/sensor/rkyolo-board/door/config",
                    "ha/sensor/rkyolo-board/yard/config",
                }
                plain = json.loads(listener.last("ha/sensor/rkyolo-board/yard/config"))
                assert plain["state_topic"] == "rkyolo/board/yard/detections"
                assert plain["availability_topic"] == "rkyolo/board/state"


def test_events_wait_over_a_restart_while_the_broker_is_away(tmp_path, folder):
    port = free_port()
    with sink(tmp_path, port) as mqtt:
        for index in range(50):
            mqtt.write(result(index))
        assert mqtt.state()["outbox"] == 50
    with mosquitto(folder) as server, subscriber(at(server)) as listener:
        with sink(tmp_path, server.port) as mqtt:
            mqtt.write(result(50))
            wait_until_sent(mqtt)
            assert mqtt.state()["sent"] == 51
        wait_for(lambda: len(listener.events()) == 51, "all of them")
    assert [event["index"] for event in listener.events()] == list(range(51))
    arrived = first_arrivals(listener.events())
    assert arrived == list(range(arrived[0], arrived[0] + 51))


def test_the_oldest_go_and_are_counted_while_the_broker_is_away(tmp_path, folder):
    with sink(tmp_path, free_port(), outbox_limit=10) as mqtt:
        for index in range(25):
            mqtt.write(result(index))
        assert (mqtt.state()["outbox"], mqtt.state()["dropped"]) == (10, 15)
    with mosquitto(folder) as server, subscriber(at(server)) as listener:
        with sink(tmp_path, server.port, outbox_limit=10) as mqtt:
            wait_until_sent(mqtt)
            assert mqtt.state()["dropped"] == 15
        wait_for(lambda: len(listener.events()) == 10, "what was left")
    assert [event["index"] for event in listener.events()] == list(range(15, 25))


class Child:
    """A process that writes to the sink, and says of each frame that write() returned."""

    started: ClassVar[list["Child"]] = []

    def __init__(self, plain, first):
        self.written = []
        self.started.append(self)
        command = [sys.executable, "-W", "error", "-c", CHILD, json.dumps(plain), str(first)]
        self.process = subprocess.Popen(
            [*command, str(first + EVENTS)],
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.written.append(int(line))

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        """What it wrote, when it has ended."""
        self.process.wait(120)
        self._reader.join(20)
        self.process.stdout.close()
        return self.written


def test_nothing_is_lost_while_the_broker_and_the_process_are_killed(tmp_path, folder):
    """Ten kills of the broker and two of the process, at any moment while 5,000 events flow."""
    written, kills = [], 0
    with mosquitto(folder) as server, subscriber(at(server), qos=0) as listener:
        plain = options(tmp_path, server.port)
        for run in range(CHILD_KILLS + 1):
            child = Child(plain, run * EVENTS)
            last = run == CHILD_KILLS
            until = EVENTS if last else EVENTS * (run + 1) // (CHILD_KILLS + 1)
            while kills < BROKER_KILLS:
                share = EVENTS * (kills + 1) // (BROKER_KILLS + 1)
                if share >= until:
                    break
                enough = max(1, share - len(written))  # a child before may have run past it
                wait_for(lambda c=child, n=enough: len(c.written) >= n, "events", 60)
                cut_off(server, listener, child.process)
                kills += 1
            if not last:
                enough = until - len(written)
                wait_for(lambda c=child, n=enough: len(c.written) >= n, "events", 60)
                child.signal(signal.SIGKILL)
            written += child.end()
        assert child.process.returncode == 0
        assert kills == BROKER_KILLS
        assert len(written) >= EVENTS
        wait_for(lambda: listener.last("rkyolo/board/state") == b"offline", "the end")
        events = listener.events()
    assert set(written) <= {event["index"] for event in events}
    arrived = first_arrivals(events)
    assert arrived == list(range(arrived[0], arrived[0] + len(arrived))), "fresh, in order, no gap"
    by_id = {event["id"]: event for event in events}
    assert all(by_id[event["id"]] == event for event in events), "an id means one event"
    for source in ("door", "yard"):
        indices = [by_id[id]["index"] for id in arrived if by_id[id]["source"] == source]
        assert indices == sorted(indices)
        assert len(indices) > EVENTS // 4


def test_a_full_disk_is_told_and_the_same_result_is_taken_later(tmp_path):
    with sink(tmp_path, free_port()) as mqtt:
        index = 0
        with full_after(400_000):
            with pytest.raises(SinkLostError, match=r"outbox .* cannot be used: .*make room there"):
                while index < 5000:
                    mqtt.write(result(index))
                    index += 1
            waiting = mqtt.state()["outbox"]
            assert waiting == index
        mqtt.write(result(index))
        assert mqtt.state()["outbox"] == waiting + 1
    with sink(tmp_path, free_port()) as mqtt:
        assert mqtt.state()["outbox"] == waiting + 1


def test_an_outbox_that_another_process_has(tmp_path):
    with sink(tmp_path, free_port()) as mqtt:
        mqtt.write(result())
        child = Child(options(tmp_path, free_port()), 0)
        assert child.end() == []
        assert child.process.returncode == 1
        with pytest.raises(SinkLostError, match="another process has it: give each sink an outbox"):
            open_sink(MqttSinkOptions(**options(tmp_path, free_port())), "board")


def test_an_outbox_where_there_can_be_none(tmp_path):
    (tmp_path / "taken").write_text("a file")
    plain = options(tmp_path, 1883) | {"outbox": str(tmp_path / "taken" / "outbox.db")}
    with pytest.raises(SinkLostError, match="a file is where a folder should be"):
        open_sink(MqttSinkOptions(**plain), "board")
    plain["outbox"] = str(tmp_path)
    with pytest.raises((SinkLostError, UserError)):
        open_sink(MqttSinkOptions(**plain), "board")
    plain["outbox"] = str(tmp_path / "taken")
    with pytest.raises(UserError, match="is no outbox, and stays as it is"):
        open_sink(MqttSinkOptions(**plain), "board")


def test_certificates_that_cannot_be_read_are_told_when_it_is_made(tmp_path):
    plain = options(tmp_path, 1883)
    plain["broker"] |= {"tls": {"ca": str(tmp_path / "absent.pem")}}
    with pytest.raises(UserError, match="TLS certificates cannot be used"):
        open_sink(MqttSinkOptions(**plain), "board")
    assert not (tmp_path / "outbox.db").exists()


def test_its_state_can_be_asked_for_at_any_time(tmp_path, folder):
    problems, stop = [], threading.Event()

    def ask(mqtt):
        while not stop.is_set():
            try:
                state = json.loads(json.dumps(mqtt.state()))
                assert state["broker"] in ("connecting", "connected", "waiting", "stopped")
                assert state["outbox"] >= 0
            except Exception as error:
                problems.append(error)

    with mosquitto(folder) as server:
        with sink(tmp_path, server.port) as mqtt:
            askers = [threading.Thread(target=ask, args=(mqtt,)) for _ in range(3)]
            for asker in askers:
                asker.start()
            for index in range(300):
                mqtt.write(result(index))
            server.kill()
        mqtt.close()
        stop.set()
        for asker in askers:
            asker.join(20)
    assert not problems
    assert mqtt.state()["broker"] == "stopped"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"prefix": "a/#"}, "prefix", id="a wildcard in the prefix"),
        pytest.param({"prefix": "/a"}, "prefix", id="an empty level"),
        pytest.param({"outbox_mb": 0}, "outbox_mb", id="no room"),
        pytest.param({"outbox_limit": 0}, "outbox_limit", id="no events"),
        pytest.param({"window": 0}, "window", id="nothing may be sent"),
        pytest.param({"home_assistant": "a/b"}, "home_assistant", id="two levels"),
        pytest.param({"outbox": None}, "outbox", id="no outbox"),
        pytest.param(
            {"broker": {"host": "x", "password": "secret"}}, "give that too", id="no username"
        ),
        pytest.param(
            {"broker": {"host": "x", "tls": {"key": "k.pem"}}}, "give that too", id="no certificate"
        ),
    ],
)
def test_options_that_cannot_be(tmp_path, change, words):
    with pytest.raises(ValidationError, match=words):
        MqttSinkOptions(**(options(tmp_path, 1883) | change))
