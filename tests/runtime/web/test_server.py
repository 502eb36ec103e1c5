"""The server's life, and its plain routes."""

import json
import logging
import socket
import threading
import time
from http.client import HTTPConnection

import pytest
from prometheus_client.parser import text_string_to_metric_families
from servers import listens, wait_for

from runtime.config import HttpOptions
from runtime.errors import UserError
from runtime.web.server import WebServer


def get(server, path, method="GET"):
    connection = HTTPConnection(*server.address, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def opened(server, path):
    """A socket on which an endless answer has begun."""
    link = socket.create_connection(server.address, 10)
    link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert link.recv(100).startswith(b"HTTP/1.1 200")
    return link


@pytest.fixture
def view(make_view):
    return make_view(sources=("door", "yard"), moving=False)


def test_state(view, serve):
    with serve(view) as server:
        status, headers, body = get(server, "/api/state")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        state = json.loads(body)
        assert state["board"] == "porch-board"
        assert set(state["sources"]) == {"door", "yard"}
        assert state["web"] == {
            "streams": 0,
            "streams_limit": 32,
            "listening": 0,
            "events_dropped": 0,
        }


def test_metrics(view, serve):
    with serve(view) as server:
        status, headers, body = get(server, "/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=")
        names = {family.name for family in text_string_to_metric_families(body.decode())}
        assert {"rkyolo_frames", "rkyolo_stage_seconds", "rkyolo_web_streams"} <= names


def test_health(view, serve):
    with serve(view) as server:
        assert get(server, "/healthz")[::2] == (200, b'{"ok":true}')
        assert get(server, "/readyz")[0] == 200
        view.is_ready = False
        assert (get(server, "/healthz")[0], get(server, "/readyz")[0]) == (200, 503)
        view.is_healthy = False
        assert get(server, "/healthz")[::2] == (503, b'{"ok":false}')


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/nothing", 404, "Not Found"),
        ("/api/nothing", 404, "Not Found"),
        ("/stream/nobody", 404, "there is no source of that name: /api/state lists them"),
        ("/snapshot/nobody.jpg", 404, "there is no source of that name: /api/state lists them"),
        ("/snapshot/..%2f..%2fetc.jpg", 404, "Not Found"),
        (
            "/api/detections?source=no",
            404,
            "there is no source of that name: /api/state lists them",
        ),
        ("/snapshot/door.jpg", 503, "there is no picture of this source yet"),
    ],
)
def test_errors_are_plain(view, serve, path, status, error):
    with serve(view) as server:
        got, headers, body = get(server, path)
        assert (got, headers["Content-Type"]) == (status, "application/json")
        assert json.loads(body) == {"error": error}


def test_other_methods_are_refused(view, serve):
    with serve(view) as server:
        assert get(server, "/api/state", "POST")[0] == 405
        assert get(server, "/stream/door", "HEAD")[0] == 200
        assert get(server, "/api/detections", "HEAD")[0] == 200
        assert json.loads(get(server, "/api/state")[2])["web"]["streams"] == 0


def test_a_failure_of_ours_is_logged_and_the_next_request_answered(view, serve, caplog):
    good = view.state
    view.state = lambda: 1 / 0
    with serve(view) as server:
        status, _, body = get(server, "/api/state")
        assert (status, body) == (500, b"Internal Server Error")
        view.state = good
        assert get(server, "/api/state")[0] == 200
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "GET /api/state failed"
    assert record.exc_info[0] is ZeroDivisionError


def test_a_port_that_is_taken(view, serve):
    with serve(view) as server:
        port = server.address[1]
        with pytest.raises(UserError) as caught:
            WebServer(HttpOptions(port=port), view)
    assert str(caught.value) == (
        f"cannot answer on 127.0.0.1 port {port}: another program has this port: stop it, or set"
        " http.port to another one"
    )


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("192.0.2.1", "this host has no such address: set http.host to one of its own"),
        ("no.such.host.invalid", "http.host no.such.host.invalid is no address of this host"),
        ("a" * 70, "is no address of this host"),
    ],
)
def test_an_address_that_is_not_ours(view, host, message):
    with pytest.raises(UserError) as caught:
        WebServer(HttpOptions(host=host, token="a" * 16), view)
    assert message in str(caught.value)


def test_ipv6(view, serve, caplog):
    caplog.set_level(logging.INFO)
    with serve(view, host="::1") as server:
        assert server.address == ("::1", server.address[1])
        assert server.url == f"http://[::1]:{server.address[1]}/"
        assert get(server, "/healthz")[0] == 200
    assert caplog.messages == []  # nothing a request, and none of uvicorn's own words


def test_requests_that_come_before_the_start_wait(view):
    server = WebServer(HttpOptions(port=0), view)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(get(server, "/healthz")[0]))
    asking.start()
    server.start()
    asking.join(10)
    server.close()
    assert answers == [200]


def test_a_server_that_never_started_gives_its_port_back(view):
    server = WebServer(HttpOptions(port=0), view)
    server.close()
    server.close()
    assert not listens(server.address[1])


def test_close_ends_open_streams_and_the_next_server_takes_the_port(make_view, serve):
    view = make_view()
    with serve(view) as server:
        port = server.address[1]
        wait_for(lambda: view.latest("door"), "a result")
        links = [opened(server, path) for path in ("/stream/door", "/api/detections") * 3]
        idle = socket.create_connection(server.address, 10)
        begun = time.monotonic()
        server.close(20)
        assert time.monotonic() - begun < 15
        assert not [thread for thread in threading.enumerate() if thread.name == "web"]
        for link in links:
            link.settimeout(10)
            while link.recv(65536):
                pass
            link.close()
        idle.close()
        server.close(20)
    assert view.callbacks == []
    with serve(view, port=port):
        assert listens(port)


def test_close_ends_connections_that_come_while_it_closes(view, serve):
    with serve(view) as server:
        links, refused = [], threading.Event()

        def knock():
            try:
                while len(links) < 5000:
                    links.append(socket.create_connection(server.address, 10))
            except OSError:
                refused.set()

        knocking = threading.Thread(target=knock)
        knocking.start()
        wait_for(lambda: len(links) > 10, "the first connections")
        begun = time.monotonic()
        server.close(30)
        took_s = time.monotonic() - begun
        knocking.join(60)
        for link in links:
            link.close()
        assert took_s < 25
        assert refused.is_set()


def test_close_does_not_wait_for_a_client_that_takes_nothing(make_view, serve):
    view = make_view(size_wh=(1280, 960))
    with serve(view, stream_rate=60) as server:
        wait_for(lambda: view.latest("door"), "a result")
        link = socket.socket()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.settimeout(10)
        link.connect(server.address)
        link.sendall(b"GET /stream/door HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(200):  # more than the sockets hold, and never read
            view.give(view.result("door", 0))
            time.sleep(0.02)
        server.close(3)
        assert not [thread for thread in threading.enumerate() if thread.name == "web"]
        try:
            while link.recv(65536):  # ends in a time-out where the connection was left open
                pass
        except ConnectionResetError:
            pass
        link.close()


def test_there_are_only_so_many_streams(view, serve):
    with serve(view) as server:
        links = [opened(server, "/api/detections") for _ in range(32)]
        status, headers, body = get(server, "/stream/door")
        assert (status, headers["Retry-After"]) == (503, "5")
        error = "32 streams are open already: close one and try again"
        assert json.loads(body) == {"error": error}
        assert get(server, "/api/state")[0] == 200
        links.pop().close()
        wait_for(lambda: _can_open(server), "a seat that becomes free")
        for link in links:
            link.close()
        wait_for(lambda: not view.callbacks, "the end of the subscription")


def _can_open(server):
    try:
        opened(server, "/stream/door").close()
    except AssertionError:
        return False
    return True


def test_noise_on_the_port_harms_nothing(view, serve, caplog):
    with serve(view) as server:
        for noise in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\x00" * 5000, b"A" * 100_000):
            with socket.create_connection(server.address, 10) as link:
                try:
                    link.sendall(noise + b"\r\n\r\n")
                    link.recv(1000)
                except OSError:
                    pass
        assert get(server, "/healthz")[0] == 200
    assert "Traceback" not in caplog.text
