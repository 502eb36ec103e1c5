"""The publisher against a real broker: getting in, being refused, order, and goodbye."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT
from servers import free_port, mosquitto, program, wait_for
from subscriber import first_arrivals, subscriber

from runtime.mqtt.broker import BrokerOptions, TlsOptions
from runtime.mqtt.connection import Message
from runtime.mqtt.outbox import Outbox
from runtime.mqtt.publisher import Publisher

STATE = "rkyolo/board/state"
DOOR = "rkyolo/board/door/detections"
PASSWORD = "correct-horse-battery"


@pytest.fixture
def box(tmp_path):
    box = Outbox(tmp_path / "outbox.db", 100_000, 10**9)
    yield box
    box.close()


@pytest.fixture
def publish(box):
    """Starts publishers of the outbox, and closes them at the end."""
    started = []

    def start(broker, window=100):
        started.append(Publisher(broker, box, STATE, window))
        return started[-1]

    yield start
    for publisher in started:
        publisher.close()


@pytest.fixture
def folder(tmp_path):
    """For a broker: its own, so that it does not find another's state."""
    folder = tmp_path / "broker"
    folder.mkdir()
    return folder


def broker_at(server, **options):
    return BrokerOptions(host="127.0.0.1", port=server.port, **options)


def wait_until(publisher, within_s=60, **wanted):
    def holds():
        state = publisher.state()
        return all(state[key] == value for key, value in wanted.items())

    wait_for(holds, f"{wanted}; it is {publisher.state()}", within_s)


def wait_for_detail(publisher, words):
    wait_for(lambda: words in (publisher.state()["detail"] or ""), f"{words}: {publisher.state()}")


def test_events_go_in_order_and_leave_the_outbox(box, publish, folder):
    given = [box.add(DOOR, {"n": n}) for n in range(500)]
    with mosquitto(folder) as server, subscriber(broker_at(server), DOOR) as listener:
        publisher = publish(broker_at(server))
        given += [box.add(DOOR, {"n": n}) for n in range(500, 1000)]
        publisher.wake()
        wait_until(publisher, broker="connected", outbox=0, sent=1000, dropped=0, detail=None)
        wait_for(lambda: len(listener.messages) == 1000, "all of them")
        assert [event["id"] for event in listener.events()] == given
        assert [event["n"] for event in listener.events()] == list(range(1000))


def test_the_brokers_own_bound_on_what_is_unconfirmed_is_kept(box, publish, folder):
    for n in range(300):
        box.add(DOOR, {"n": n})
    with mosquitto(folder, "max_inflight_messages 2") as server:
        publisher = publish(broker_at(server), window=200)
        wait_until(publisher, outbox=0, sent=300)
        assert publisher.state()["broker"] == "connected"
        # a broker ends the connection of a client that sends more than it takes
        assert (folder / "mosquitto.log").read_text().count(" as rkyolo-") == 1


def test_the_state_is_kept_and_taken_back(box, publish, folder):
    with mosquitto(folder) as server:
        publisher = publish(broker_at(server))
        wait_until(publisher, broker="connected")
        with subscriber(broker_at(server), STATE) as listener:
            wait_for(lambda: listener.payloads() == [b"online"], "the state that was kept")
            assert listener.messages[0].retain
            publisher.close()
            wait_for(lambda: listener.payloads() == [b"online", b"offline"], "goodbye")
        assert publisher.state()["broker"] == "stopped"


def test_a_killed_process_is_reported_by_the_broker(tmp_path, folder):
    code = f"""
import sys, time
from pathlib import Path
from runtime.mqtt.broker import BrokerOptions
from runtime.mqtt.outbox import Outbox
from runtime.mqtt.publisher import Publisher
broker = BrokerOptions(host="127.0.0.1", port=int(sys.argv[1]))
Publisher(broker, Outbox(Path(sys.argv[2]), 10, 10**9), {STATE!r}, 10)
time.sleep(60)
"""
    with mosquitto(folder) as server, subscriber(broker_at(server), STATE) as listener:
        arguments = [str(server.port), str(tmp_path / "child.db")]
        child = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT)
        try:
            wait_for(lambda: listener.payloads() == [b"online"], "online")
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait(10)
        wait_for(lambda: listener.payloads() == [b"online", b"offline"], "the will")


def test_no_broker_is_waited_for_and_events_with_it(box, publish, folder):
    port = free_port()
    publisher = publish(BrokerOptions(host="127.0.0.1", port=port))
    box.add(DOOR, {})
    publisher.wake()
    wait_for_detail(publisher, f"127.0.0.1:{port}: connection refused")
    assert publisher.state()["outbox"] == 1
    publisher.close()
    assert publisher.state()["broker"] == "stopped"
    assert len(box.after(0, 10)) == 1


@pytest.mark.parametrize(
    ("host", "words"),
    [
        pytest.param("no-such-host.invalid", "no-such-host.invalid:1883: ", id="unknown"),
        pytest.param("a" * 70 + ".invalid", ".invalid:1883: ", id="no name can be so long"),
        pytest.param("two words", "two words:1883: ", id="no name"),
    ],
)
def test_a_host_that_is_not_there_is_named(publish, host, words):
    wait_for_detail(publish(BrokerOptions(host=host)), words)


def test_a_server_that_is_no_broker(publish):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        publisher = publish(BrokerOptions(host="127.0.0.1", port=listening.getsockname()[1]))
        wait_for_detail(publisher, "it does not answer as a broker does")


def passwords(folder):
    """Settings for a broker that lets one user in, and that with the right password only."""
    path = folder / "passwords"
    command = [program("mosquitto_passwd"), "-b", "-c", str(path), "board", PASSWORD]
    subprocess.run(command, check=True, capture_output=True)
    path.chmod(0o600)
    return f"password_file {path}", "allow_anonymous false"


def test_the_right_password_lets_in(box, publish, folder):
    with mosquitto(folder, *passwords(folder)) as server:
        publisher = publish(broker_at(server, username="board", password=PASSWORD))
        box.add(DOOR, {})
        publisher.wake()
        wait_until(publisher, broker="connected", outbox=0, sent=1)


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param({"username": "board", "password": "wrong-" + PASSWORD}, id="wrong password"),
        pytest.param({"username": "other", "password": PASSWORD}, id="wrong user"),
        pytest.param({}, id="none"),
    ],
)
def test_who_is_not_let_in_is_told_without_the_password(publish, folder, caplog, credentials):
    caplog.set_level("DEBUG")
    with mosquitto(folder, *passwords(folder)) as server:
        publisher = publish(broker_at(server, **credentials))
        wait_for_detail(publisher, "not authorized; check username and password")
        log = folder / "mosquitto.log"
        wait_for(lambda: log.read_text().count("not authorised") > 2, "it to be tried again")
        assert publisher.state()["broker"] in ("waiting", "connecting")
    assert "not authorized; check username and password" in caplog.text
    assert PASSWORD not in caplog.text + repr(publisher.state())


def test_a_password_that_is_corrected_on_the_broker_lets_in_later(box, publish, folder):
    settings = passwords(folder)
    with mosquitto(folder, *settings) as server:
        publisher = publish(broker_at(server, username="late", password=PASSWORD))
        box.add(DOOR, {})
        wait_for_detail(publisher, "not authorized")
        command = [program("mosquitto_passwd"), "-b", str(folder / "passwords"), "late", PASSWORD]
        subprocess.run(command, check=True, capture_output=True)
        server.kill()
        server.start()
        wait_until(publisher, broker="connected", outbox=0, detail=None)


def certificates(folder, name="localhost"):
    """ca.pem, and server.pem and .key for that name."""
    openssl = program("openssl")

    def run(*arguments):
        subprocess.run([openssl, *arguments], check=True, capture_output=True, cwd=folder)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca")
    run("req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={name}")
    (folder / "names").write_text(f"subjectAltName=DNS:{name}\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    run("x509", "-req", "-in", "server.csr", *signing, "-out", "server.pem")
    return f"certfile {folder}/server.pem", f"keyfile {folder}/server.key"


def tls_at(server, ca=None, host="localhost"):
    return BrokerOptions(host=host, port=server.port, tls=TlsOptions(ca=ca))


def test_tls(box, publish, folder):
    given = [box.add(DOOR, {"text": "x" * 1000}) for _ in range(500)]
    with mosquitto(folder, *certificates(folder)) as server:
        broker = tls_at(server, folder / "ca.pem")
        with subscriber(broker, DOOR) as listener:
            publisher = publish(broker)
            wait_until(publisher, broker="connected", outbox=0, sent=500)
            wait_for(lambda: len(listener.messages) == 500, "all of them")
            assert [event["id"] for event in listener.events()] == given


def test_a_client_certificate_where_the_broker_wants_one(box, publish, folder):
    """The server's own serves for this too: openssl sets no purpose."""
    settings = (*certificates(folder), f"cafile {folder}/ca.pem", "require_certificate true")
    box.add(DOOR, {})
    with mosquitto(folder, *settings) as server:
        without = publish(tls_at(server, folder / "ca.pem"))
        wait_for(lambda: without.state()["detail"], "the reason")
        without.close()
        assert box.waiting == 1
        own = {"certificate": folder / "server.pem", "key": folder / "server.key"}
        tls = TlsOptions(ca=folder / "ca.pem", **own)
        publisher = publish(BrokerOptions(host="localhost", port=server.port, tls=tls))
        wait_until(publisher, broker="connected", outbox=0, sent=1)


# the client leaves a socket to be collected where the handshake fails
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("name", "trusted", "words"),
    [
        pytest.param(
            "elsewhere.example", True, "hostname mismatch, certificate is not valid", id="name"
        ),
        pytest.param("localhost", False, "certificate is not accepted: ", id="not trusted"),
    ],
)
def test_a_broker_that_is_not_who_it_should_be_gets_nothing(
    box, publish, folder, name, trusted, words
):
    box.add(DOOR, {})
    with mosquitto(folder, *certificates(folder, name)) as server:
        publisher = publish(tls_at(server, folder / "ca.pem" if trusted else None))
        wait_for_detail(publisher, words)
        assert publisher.state()["outbox"] == 1
        publisher.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_to_a_broker_without_it(publish, folder):
    with mosquitto(folder) as server:
        publisher = publish(tls_at(server))
        wait_for(lambda: publisher.state()["detail"], "the reason")
        assert publisher.state()["broker"] in ("waiting", "connecting")


def test_no_tls_to_a_broker_with_it(publish, folder):
    with mosquitto(folder, *certificates(folder)) as server:
        wait_for_detail(publish(broker_at(server)), "does the broker want TLS?")


def test_certificates_that_cannot_be_read_are_said(publish, tmp_path):
    broker = BrokerOptions(host="127.0.0.1", tls=TlsOptions(ca=tmp_path / "absent.pem"))
    wait_for_detail(publish(broker), "the broker's TLS certificates cannot be used: No such file")


def test_a_topic_that_is_not_allowed_waits_until_it_is(box, publish, folder):
    rules = folder / "rules"
    rules.write_text("topic readwrite rkyolo/board/state\ntopic read #\n")
    rules.chmod(0o600)
    given = [box.add(DOOR, {}) for _ in range(20)]
    with (
        mosquitto(folder, f"acl_file {rules}") as server,
        subscriber(broker_at(server), DOOR) as listener,
    ):
        publisher = publish(broker_at(server))
        wait_for_detail(publisher, "the broker refuses it: not authorized")
        wait_until(publisher, broker="waiting")
        assert publisher.state()["outbox"] == 20
        assert publisher.state()["sent"] == 0
        rules.write_text("topic readwrite #\n")
        server.reload()
        wait_until(publisher, outbox=0, detail=None)
        wait_for(lambda: len(set(first_arrivals(listener.events()))) == 20, "all of them")
        assert first_arrivals(listener.events()) == given


def test_what_the_broker_will_not_keep_does_not_stop_events(box, publish, folder):
    rules = folder / "rules"
    rules.write_text("topic readwrite rkyolo/#\n")
    rules.chmod(0o600)
    with mosquitto(folder, f"acl_file {rules}") as server:
        publisher = publish(broker_at(server))
        publisher.keep(Message("homeassistant/sensor/x/config", b"{}"))
        wait_for_detail(publisher, "sensor/x/config is not tried again: the broker refuses it")
        box.add(DOOR, {})
        publisher.wake()
        wait_until(publisher, outbox=0, sent=1, broker="connected")
        assert "sensor/x/config is not tried again" in publisher.state()["detail"]


def test_an_event_too_large_for_the_broker_does_not_block_others(box, publish, folder, caplog):
    given = [box.add(DOOR, {"text": "x" * size}) for size in (10, 5000, 10)]
    with (
        mosquitto(folder, "max_packet_size 2000") as server,
        subscriber(broker_at(server), DOOR) as listener,
    ):
        publisher = publish(broker_at(server))
        wait_until(publisher, outbox=0, sent=2, dropped=1)
        wait_for(lambda: len(listener.messages) == 2, "the others")
        assert first_arrivals(listener.events()) == [given[0], given[2]]
    assert f"event {given[1]} is dropped" in caplog.text


class Puppet:
    """A broker that answers what the test says, packet by packet."""

    def __init__(self):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(20)
        self._connection = None
        self.options = BrokerOptions(host="127.0.0.1", port=self._listening.getsockname()[1])

    def accept(self, properties=b""):
        """Let a client in, the one before out."""
        self.end()
        self._connection, _ = self._listening.accept()
        assert self.packet()[0] == 0x10
        self.send(bytes([0x20, 3 + len(properties), 0, 0, len(properties)]) + properties)

    def packet(self, within_s=20):
        """(first byte, rest) of what comes next, None where nothing does."""
        self._connection.settimeout(within_s)
        try:
            first = self._connection.recv(1)
        except TimeoutError:
            return None
        self._connection.settimeout(20)
        length, more, shift = 0, 128, 0
        while more > 127:
            (more,) = self._connection.recv(1)
            length, shift = length | (more & 127) << shift, shift + 7
        return first[0], self._connection.recv(length, socket.MSG_WAITALL)

    def publications(self, count):
        """Of exactly so many messages that come now, number and payload."""
        got = []
        for _ in range(count):
            first, rest = self.packet()
            assert first >> 4 == 3
            end = 2 + int.from_bytes(rest[:2], "big")  # of the topic; then number and properties
            got.append((rest[end : end + 2], rest[end + 3 :]))
        assert self.packet(0.3) is None
        return got

    def send(self, data):
        self._connection.sendall(data)

    def end(self):
        if self._connection is not None:
            self._connection.close()


@pytest.fixture
def puppet():
    puppet = Puppet()
    yield puppet
    puppet.end()
    puppet._listening.close()


def puback(number, reason=0):
    return b"\x40\x03" + number + bytes([reason])


def test_no_more_is_unconfirmed_than_the_broker_says(box, publish, puppet):
    for n in range(10):
        box.add(DOOR, {"n": n})
    publisher = publish(puppet.options, window=5)
    puppet.accept(b"\x21\x00\x03")
    first, *_ = puppet.publications(3)
    puppet.send(puback(first[0]))
    puppet.publications(1)
    puppet.accept()
    assert len(puppet.publications(5)) == 5, "the window, where the broker says nothing"
    assert publisher.state()["sent"] == 0


def test_a_refused_event_is_not_overtaken_again(box, publish, puppet):
    given = [box.add(DOOR, {}) for _ in range(6)]
    publisher = publish(puppet.options, window=4)

    def ids(messages):
        return [json.loads(payload)["id"] for _, payload in messages]

    puppet.accept()
    state, *events = puppet.publications(4)
    assert ids(events) == given[:3]
    (zero, _), (one, _), _ = events
    puppet.send(puback(state[0]) + puback(zero, 0x97) + puback(one))  # 0x97: quota exceeded
    wait_for_detail(publisher, "the broker refuses it: quota exceeded")
    puppet.accept()
    ((state, _),) = puppet.publications(1)
    puppet.send(puback(state))
    (event,) = puppet.publications(1)
    assert ids([event]) == given[:1], "one by one, the refused one first"
    puppet.send(puback(event[0]))
    assert ids(puppet.publications(4)) == given[2:], "then as many as before, without the second"
    wait_until(publisher, sent=2, outbox=4, detail=None)


def test_a_lost_connection_begins_again_with_the_oldest_unconfirmed(box, publish, puppet):
    given = [box.add(DOOR, {}) for _ in range(5)]
    publish(puppet.options)
    puppet.accept()
    _, (zero, _), _, (two, _), *_ = puppet.publications(6)
    puppet.send(puback(zero) + puback(two))
    wait_for(lambda: box.waiting == 3, "the two to be done")
    puppet.accept()
    again = [json.loads(payload)["id"] for _, payload in puppet.publications(4)[1:]]
    assert again == [given[1], given[3], given[4]]


def test_a_copy_of_the_outbox_elsewhere_is_said(publish, puppet):
    """Mosquitto 2.0.11 closes the older connection without a word; others say why, as here."""
    publisher = publish(puppet.options)
    puppet.accept()
    puppet.send(b"\xe0\x02\x8e\x00")
    wait_for_detail(publisher, "session taken over; another client has the same id")


def test_a_broker_that_closes_at_each_event_is_waited_for(box, publish, puppet):
    box.add(DOOR, {})
    publisher = publish(puppet.options)
    for _ in range(3):
        puppet.accept()
        puppet.publications(2)
    assert (publisher.state()["outbox"], publisher.state()["sent"]) == (1, 0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x40\x02\xff\xff", id="a confirmation of nothing"),
        pytest.param(b"\x40\x00", id="an empty confirmation"),
        pytest.param(b"\x40\x03\x00\x01\x77", id="a reason that does not exist"),
        pytest.param(b"\xff" * 64, id="no packet"),
        pytest.param(b"\xe0\x01\x77", id="a goodbye for no known reason"),
        pytest.param(b"\x30\x7f" + b"\x00" * 127, id="a message nobody asked for"),
    ],
)
def test_what_a_broken_broker_sends_costs_the_connection_at_most(box, publish, puppet, data):
    publisher = publish(puppet.options)
    puppet.accept()
    puppet.publications(1)
    puppet.send(data)
    box.add(DOOR, {})
    publisher.wake()
    puppet.accept()
    for number, _ in puppet.publications(2):
        puppet.send(puback(number))
    wait_until(publisher, sent=1, outbox=0, broker="connected")


def test_two_boards_of_one_name_do_not_put_each_other_out(box, publish, folder, tmp_path):
    other = Outbox(tmp_path / "other.db", 10, 10**9)
    with mosquitto(folder) as server:
        first = publish(broker_at(server))
        second = Publisher(broker_at(server), other, STATE, 10)
        try:
            wait_until(first, broker="connected")
            wait_until(second, broker="connected")
            assert first.state()["client_id"] != second.state()["client_id"]
            other.add(DOOR, {})
            second.wake()
            wait_until(second, sent=1)
            wait_until(first, broker="connected", detail=None)
        finally:
            second.close()
            other.close()


def test_an_idle_connection_stays_and_a_frozen_broker_is_noticed(box, publish, folder):
    with mosquitto(folder) as server:
        publisher = publish(broker_at(server, keepalive_s=1))
        wait_until(publisher, broker="connected")
        time.sleep(2.5)  # mosquitto puts out who is silent for one and a half times that
        assert publisher.state()["broker"] == "connected"
        assert (folder / "mosquitto.log").read_text().count(" as rkyolo-") == 1
        os.kill(server._process.pid, signal.SIGSTOP)
        try:
            box.add(DOOR, {})
            publisher.wake()
            wait_for_detail(publisher, "the connection is lost")
        finally:
            os.kill(server._process.pid, signal.SIGCONT)
        wait_until(publisher, broker="connected", outbox=0)


def test_closing_sends_what_is_left(box, publish, folder):
    with mosquitto(folder) as server, subscriber(broker_at(server), DOOR) as listener:
        publisher = publish(broker_at(server))
        wait_until(publisher, broker="connected")
        given = [box.add(DOOR, {}) for _ in range(300)]
        publisher.close()
        wait_for(lambda: len(listener.messages) == 300, "all of them")
        assert first_arrivals(listener.events()) == given
        assert publisher.state() | {"broker": "stopped", "outbox": 0} == publisher.state()


def test_closing_does_not_wait_for_a_broker_that_hangs(box, publish, folder):
    with mosquitto(folder) as server:
        publisher = publish(broker_at(server))
        wait_until(publisher, broker="connected")
        os.kill(server._process.pid, signal.SIGSTOP)
        try:
            box.add(DOOR, {})
            publisher.wake()
            began = time.monotonic()
            publisher.close()
            assert time.monotonic() - began < 30
            assert publisher.state()["broker"] == "stopped"
            assert len(box.after(0, 10)) == 1
        finally:
            os.kill(server._process.pid, signal.SIGCONT)


def test_a_full_disk_under_it_is_said_and_survived(box, publish, folder, monkeypatch):
    import sqlite3

    real, full = box.flush, threading.Event()

    def flush():
        if full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        real()

    monkeypatch.setattr(box, "flush", flush)
    full.set()
    with mosquitto(folder) as server:
        publisher = publish(broker_at(server))
        for _ in range(10):
            box.add(DOOR, {})
        publisher.wake()
        wait_until(publisher, outbox=0, sent=10, broker="connected")
        full.clear()
    assert json.loads(json.dumps(publisher.state()))["dropped"] == 0
