"""rkyolo run with an MQTT sink: the demo's video, a real broker, and both of them killed."""

import signal

from conftest import DEMO
from daemons import daemon
from servers import mosquitto, wait_for
from subscriber import cut_off, first_arrivals, subscriber

from runtime.mqtt.broker import BrokerOptions

STATE = "rkyolo/testboard/state"
DOOR = "rkyolo/testboard/door/detections"


def config(tmp_path, port, **sink):
    source = {"name": "door", "type": "files", "paths": [str(DEMO / "shapes.mp4")]}
    mqtt = {"type": "mqtt", "broker": {"host": "127.0.0.1", "port": port}}
    return {
        "model": str(DEMO / "shapes.pt"),
        "engine": {"deadline_s": 60},
        "sources": [source | {"repeat": True, "rate": 100}],
        "sinks": [mqtt | {"outbox": str(tmp_path / "outbox.db")} | sink],
    }


def test_detections_survive_kills_of_the_daemon_and_of_the_broker(tmp_path):
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as server:
        broker = BrokerOptions(host="127.0.0.1", port=server.port)
        with subscriber(broker, qos=0) as listener:
            plain = config(tmp_path, server.port)
            for run in range(3):
                with daemon(plain, tmp_path) as running:
                    for _ in range(2):
                        enough = len(listener.events()) + 25
                        wait_for(lambda n=enough: len(listener.events()) > n, running.log, 60)
                        cut_off(server, listener, running.process)
                    enough = len(listener.events()) + 10
                    wait_for(lambda n=enough: len(listener.events()) > n, running.log, 60)
                    assert running.sink("mqtt")["more"]["dropped"] == 0
                    if run < 2:
                        running.end(signal.SIGKILL)
                    else:
                        assert running.end() == 0, running.log
            wait_for(lambda: listener.last(STATE) == b"offline", "goodbye")
            events = listener.events()
    arrived = first_arrivals(events)
    assert arrived == list(range(arrived[0], arrived[0] + len(arrived))), "fresh, in order, no gap"
    assert all(event["board"] == "testboard" for event in events)
    assert all(event["detections"] for event in events)


def test_it_runs_without_a_broker_and_says_so(tmp_path):
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as server:
        server.kill()
        with daemon(config(tmp_path, server.port), tmp_path) as running:
            wait_for(lambda: running.sink("mqtt")["more"].get("outbox", 0) > 20, running.log, 60)
            shown = running.sink("mqtt")
            assert shown["state"] == "running"
            assert shown["more"]["broker"] in ("waiting", "connecting")
            assert "connection refused" in shown["more"]["detail"]
            server.start()
            wait_for(lambda: running.sink("mqtt")["more"]["sent"] > 20, running.log, 60)
            assert running.sink("mqtt")["more"]["broker"] == "connected"


def test_a_killed_daemon_is_reported_and_its_return_too(tmp_path):
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder) as server:
        broker = BrokerOptions(host="127.0.0.1", port=server.port)
        with subscriber(broker, STATE) as listener:
            for _ in range(2):
                with daemon(config(tmp_path, server.port), tmp_path) as running:
                    wait_for(lambda: listener.last(STATE) == b"online", running.log)
                    running.end(signal.SIGKILL)
                wait_for(lambda: listener.last(STATE) == b"offline", "the will")
            assert listener.payloads() == [b"online", b"offline"] * 2
