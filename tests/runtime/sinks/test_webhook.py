"""Posting events to a real HTTP server: one that is slow, dead, refuses, redirects or hangs up."""

import logging
import socket
import ssl
import subprocess
import threading
import time

import pytest
from hook_server import answer, hook
from made_results import found, result
from pydantic import ValidationError
from servers import free_port, program

from runtime.detections import Detections
from runtime.errors import UserError
from runtime.pipeline.frames import event
from runtime.sinks import SinkLostError, open_sink
from runtime.sinks.options import WebhookOptions

SECRETS = ("s3cret", "tok3n", "qu3ry")


def sink(url, **options):
    options = {"timeout_s": 5} | options
    return open_sink(WebhookOptions(type="webhook", url=url, **options), "board")


def url_of(server, path="/hook"):
    return f"http://127.0.0.1:{server.port}{path}"


def lost(opened, one, message, *secrets):
    """That writing it fails with that message, which tells no secret."""
    with pytest.raises(SinkLostError, match=message) as raised:
        opened.write(one)
    text = str(raised.value)
    assert "\n" not in text and not any(secret in text for secret in (*SECRETS, *secrets))


def test_events_are_posted_over_one_connection():
    with hook() as server:
        opened = sink(url_of(server, "/a%20b/ü c?x=1&y=é d#fragment"))
        for i in range(20):
            opened.write(result(i, detections=found(1, 2)))
        opened.close()
        opened.close()
    assert server.connections == 1
    path, headers, body = server.got[7]
    assert path == "/a%20b/%C3%BC%20c?x=1&y=%C3%A9%20d"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("rkyolo/")
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert "authorization" not in headers
    assert body == event(result(7, detections=found(1, 2)))
    assert opened.state() == {"delivered": 20, "refused": 0, "last_status": 200}


@pytest.mark.parametrize(("empty", "posted"), [(False, [2]), (True, [1, 2])])
def test_frames_without_detections(empty, posted):
    with hook() as server:
        opened = sink(url_of(server), empty=empty)
        opened.write(result(1, detections=Detections.empty()))
        opened.write(result(2))
        opened.close()
    assert server.indices == posted


def test_headers_and_the_user_of_the_address():
    headers = {"X-Token": "tok3n é", "Content-Type": "application/x", "Host": "other"}
    with hook() as server:
        url = url_of(server).replace("//", "//me%40home:s3cret%2F@")
        opened = sink(url, headers=headers)
        opened.write(result())
        opened.close()
        other = sink(url, headers={"AUTHORIZATION": "Bearer tok3n"})
        other.write(result())
        other.close()
    got, again = server.got[0][1], server.got[1][1]
    assert got["x-token"] == "tok3n é"
    assert (got["content-type"], got["host"]) == ("application/x", "other")
    assert got["authorization"] == "Basic bWVAaG9tZTpzM2NyZXQv"
    assert again["authorization"] == "Bearer tok3n"


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429])
def test_what_fails_for_now_is_tried_again(status):
    with hook(status, status, 200) as server:
        opened = sink(url_of(server, "/s3cret?qu3ry"), headers={"X-Token": "tok3n"})
        for _ in range(2):
            lost(opened, result(4), rf"^http://127\.0\.0\.1:{server.port} answers {status}: see")
            assert opened.state() == {"delivered": 0, "refused": 0, "last_status": status}
        opened.write(result(4))
        opened.close()
    assert server.indices == [4, 4, 4]
    assert opened.state() == {"delivered": 1, "refused": 0, "last_status": 200}


@pytest.mark.parametrize("status", [201, 202, 204, 299])
def test_any_2xx_is_delivered(status):
    def step(handler):
        handler.send_response(status)
        if status != 204:
            handler.send_header("Content-Length", "0")
        handler.end_headers()

    with hook(step) as server:
        opened = sink(url_of(server))
        opened.write(result())
        opened.write(result())
        opened.close()
    assert opened.state() == {"delivered": 2, "refused": 0, "last_status": status}
    assert server.connections == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_what_is_refused_is_dropped_counted_and_told_once(status, caplog):
    with hook(*[status] * 5, 200) as server:
        opened = sink(url_of(server, "/s3cret?qu3ry"), headers={"X-Token": "tok3n"})
        for i in range(6):
            opened.write(result(i))
        opened.close()
    assert server.indices == list(range(6))
    assert opened.state() == {"delivered": 1, "refused": 5, "last_status": 200}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"refused 1 results, now with status {status}; see its own log" in record.getMessage()
    assert not any(secret in caplog.text for secret in SECRETS)


def test_what_is_refused_is_told_again_after_a_minute(caplog, monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with hook(404) as server:
        opened = sink(url_of(server))
        for second in (0, 1, 59, 61, 62):
            monkeypatch.setattr(time, "monotonic", lambda at=now + second: at)
            opened.write(result())
        opened.close()
    assert [r.getMessage().split("refused ")[1][:9] for r in caplog.records] == [
        "1 results",
        "3 results",
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status, caplog):
    with hook() as other:
        with hook(lambda h: answer(h, status, Location=url_of(other, "/s3cret"))) as server:
            opened = sink(url_of(server), headers={"X-Token": "tok3n"})
            opened.write(result(1))
            opened.write(result(2))
            opened.close()
    assert other.connections == 0
    assert server.indices == [1, 2]
    assert opened.state() == {"delivered": 0, "refused": 2, "last_status": status}
    assert "it redirects: give the address it leads to" in caplog.text
    assert "s3cret" not in caplog.text


def test_nobody_listens_and_then_somebody_does():
    port = free_port()
    opened = sink(f"http://me:s3cret@127.0.0.1:{port}/tok3n?qu3ry")
    lost(opened, result(1), rf"^http://127\.0\.0\.1:{port}: connection refused$")
    assert opened.state() == {"delivered": 0, "refused": 0, "last_status": None}


def test_a_host_that_does_not_exist(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    opened = sink("http://no-such-host.invalid/tok3n")
    lost(opened, result(), r"^http://no-such-host\.invalid: name or service not known$")


def test_a_server_that_takes_too_long():
    release = threading.Event()

    def slow(handler):
        release.wait(20)
        answer(handler, 200)

    with hook(slow, 200) as server:
        opened = sink(url_of(server), timeout_s=0.3)
        lost(opened, result(1), r"no answer within 0\.3 s$")
        opened.write(result(1))  # over another connection: the late answer is not taken for it
        release.set()
        opened.write(result(2))
        opened.close()
    assert server.indices == [1, 1, 2]
    assert server.connections == 2


@pytest.mark.parametrize(
    ("beginning", "delivered"),
    [
        pytest.param(b"HTTP/1.1 2", 0, id="before-its-status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A: ", 1, id="after-it"),
    ],
)
def test_a_server_that_drips(beginning, delivered):
    """Each byte comes in time, and they never end."""
    over = threading.Event()

    def drip(handler):
        try:
            handler.wfile.write(beginning)
            for _ in range(400):
                handler.wfile.write(b"0")
                if over.wait(0.05):
                    return
        except OSError:
            over.set()
        handler.close_connection = True

    with hook(drip, 200) as server:
        opened = sink(url_of(server), timeout_s=0.5)
        if delivered:
            opened.write(result(1))
        else:
            lost(opened, result(1), r"no answer within 0\.5 s$")
        assert over.wait(10)  # it was hung up on
        opened.write(result(1))
        opened.close()
    assert opened.state()["delivered"] == 1 + delivered
    assert server.connections == 2


def test_an_answer_whose_body_never_ends_is_an_answer():
    over = threading.Event()

    def step(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000000")
        handler.end_headers()
        try:
            for _ in range(10**6):
                handler.wfile.write(bytes(1000))
        except OSError:
            over.set()
        handler.close_connection = True

    with hook(step, 200) as server:
        opened = sink(url_of(server))
        opened.write(result(1))
        assert over.wait(10)
        opened.write(result(2))
        opened.close()
    assert opened.state()["delivered"] == 2
    assert server.indices == [1, 2]


def hang_up(handler):
    handler.close_connection = True


def half_a_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
    handler.close_connection = True


def half_a_body(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab")
    handler.close_connection = True


def nonsense(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2 tok3n\r\n")
    handler.close_connection = True


def endless_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000 + b"\r\n")
    handler.close_connection = True


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (hang_up, "it closed the connection without an answer$"),
        (nonsense, "what answers there does not speak HTTP$"),
        (endless_head, "what answers there does not speak HTTP$"),
        (lambda h: answer(h, 999), "answers 999: see its own log$"),
    ],
)
def test_a_server_that_breaks_off_or_talks_nonsense(step, message):
    with hook(step, 200) as server:
        opened = sink(url_of(server))
        lost(opened, result(1), message)
        opened.write(result(1))
        opened.close()
    assert server.indices == [1, 1]


@pytest.mark.parametrize("step", [half_a_head, half_a_body])
def test_an_answer_that_breaks_off_after_its_status_counts(step):
    with hook(step, 200) as server:
        opened = sink(url_of(server))
        opened.write(result(1))
        opened.write(result(2))
        opened.close()
    assert server.indices == [1, 2]
    assert server.connections == 2


def test_a_kept_connection_that_the_server_closed_meanwhile():
    def last(handler):
        answer(handler, 200)
        handler.close_connection = True  # without saying so

    with hook(last) as server:
        opened = sink(url_of(server))
        for i in range(5):
            opened.write(result(i))
            time.sleep(0.02)
        opened.close()
    assert opened.state()["delivered"] == 5
    assert sorted(set(server.indices)) == list(range(5))


def test_a_server_that_keeps_no_connection():
    with hook(lambda h: answer(h, 200, Connection="close")) as server:
        opened = sink(url_of(server))
        for i in range(3):
            opened.write(result(i))
        opened.close()
    assert server.indices == [0, 1, 2]
    assert server.connections == 3


def test_a_server_that_goes_while_a_connection_is_kept():
    def last(handler):
        answer(handler, 200)
        handler.close_connection = True

    with hook(last) as server:
        opened = sink(url_of(server))
        opened.write(result(1))
    lost(opened, result(2), "connection refused$")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate of its own for localhost, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls(tls, certificate):
    with hook(tls=tls) as server:
        url = f"https://localhost:{server.port}/x"
        opened = sink(url, ca=certificate.with_suffix(".crt"))
        for i in range(3):
            opened.write(result(i))
        opened.close()
    assert server.indices == [0, 1, 2]
    assert server.connections == 1


def test_a_certificate_that_is_not_trusted(tls):
    with hook(tls=tls) as server:
        opened = sink(f"https://localhost:{server.port}/tok3n")
        message = r"its certificate is not trusted, self.signed certificate; ca may name another$"
        lost(opened, result(), message)
    assert server.got == []


def test_a_certificate_of_another_host(tls, certificate):
    with hook(tls=tls) as server:
        opened = sink(f"https://127.0.0.1:{server.port}/x", ca=certificate.with_suffix(".crt"))
        lost(opened, result(), "its certificate is not trusted, .*IP address mismatch")
    assert server.got == []


def test_tls_to_a_server_without():
    with hook() as server:
        opened = sink(f"https://127.0.0.1:{server.port}/tok3n")
        lost(opened, result(), rf"^https://127\.0\.0\.1:{server.port}: ")


@pytest.mark.parametrize(("content", "reason"), [(None, "no such file"), (b"x", "it holds none|")])
def test_certificates_that_cannot_be_read(tmp_path, content, reason):
    if content:
        (tmp_path / "ca").write_bytes(content)
    with pytest.raises(UserError, match=rf"^the certificates .*/ca cannot be used: ({reason})"):
        sink("https://localhost/x", ca=tmp_path / "ca")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://a/s3cret"}, "it is no address like https://host/path"),
        ({"url": "http:///s3cret"}, "it is no address"),
        ({"url": "http://a:99999/s3cret"}, "it is no address"),
        ({"url": "http://a..b/s3cret"}, "it is no address"),
        ({"url": f"http://{'a' * 64}/s3cret"}, "it is no address"),
        ({"headers": {"X-A": "s3cret\r\nX-B: c"}}, "the value of X-A has characters that no"),
        ({"headers": {"X-A": "s3cret猫"}}, "the value of X-A has characters that no header"),
        ({"headers": {"s3cret: x": "b"}}, "one of the names is none of a header"),
        ({"headers": {"": "b"}}, "one of the names is none of a header"),
        ({"headers": {"Content-length": "1"}}, "Content-length is not free to choose"),
        ({"timeout_s": 0}, "greater than 0"),
    ],
)
def test_options_that_cannot_be_sent(options, message):
    with pytest.raises(ValidationError) as raised:
        WebhookOptions(**{"type": "webhook", "url": "http://a/b"} | options)
    (problem,) = raised.value.errors()
    assert message in problem["msg"] and "s3cret" not in problem["msg"]


def test_nothing_shown_of_the_address_is_secret():
    url = "https://me:s3cret@host:99/services/tok3n?qu3ry=1#x"
    assert WebhookOptions(type="webhook", url=url).shown == "https://host:99"


def test_ipv6():
    options = WebhookOptions(type="webhook", url=f"http://[::1]:{free_port()}/x")
    lost(open_sink(options, "board"), result(), r"^http://\[::1\]:\d+: [a-z ]+$")


def test_no_threads_stay():
    before = threading.active_count()
    with hook() as server:
        opened = sink(url_of(server), timeout_s=60)
        for i in range(50):
            opened.write(result(i))
        opened.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
