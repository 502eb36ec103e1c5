import os
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import quote

import numpy as np
import pytest
from rtsp import rtsp_server
from servers import free_port, wait_for

from runtime.sources import SourceLostError
from runtime.sources.options import RtspOptions
from runtime.sources.rtsp import url_with_credentials

USER, PASSWORD = "me@home", "p:/%41 ?#ä"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with rtsp_server(tmp_path_factory.mktemp("rtsp")) as running:
        yield running


@pytest.fixture(scope="module", params=["basic", "digest"])
def guarded(request, tmp_path_factory):
    options = ["--user", USER, "--password", PASSWORD]
    options += ["--digest"] if request.param == "digest" else []
    with rtsp_server(tmp_path_factory.mktemp("guarded"), *options) as running:
        yield running


def url(server, path="video", userinfo=""):
    return f"rtsp://{userinfo}127.0.0.1:{server.port}/{path}"


def lost(source):
    """What the source says when it is lost."""
    with pytest.raises(SourceLostError) as caught:
        read_to_the_end(source.captures(Event()))
    return str(caught.value)


def read_to_the_end(captures):
    until = time.monotonic() + 60
    for _ in captures:
        assert time.monotonic() < until, "it goes on"


@contextmanager
def silent_server(accepts=True):
    """A port that takes connections and says nothing; or one that is as if nobody were there."""
    with socket.create_server(("127.0.0.1", 0), backlog=0 if not accepts else 16) as listener:
        waiting = []
        if not accepts:  # a full queue makes the kernel drop who else comes
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(listener.getsockname())
                waiting.append(one)
        yield listener.getsockname()[1]
        for one in waiting:
            one.close()


@contextmanager
def server_that_says(answer):
    """A port that answers whatever it is asked with these bytes, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        connection.recv(4096)
                        connection.sendall(answer)
                    except OSError:
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_pictures_of_the_stream(source, first, server):
    captures = first(source("rtsp", url=url(server)), 60)
    assert {capture.bgr.shape for capture in captures} == {(360, 640, 3)}
    assert all(100 < capture.bgr.mean() < 140 for capture in captures)
    assert not np.array_equal(captures[0].bgr, captures[-1].bgr)
    assert not np.shares_memory(captures[0].bgr, captures[1].bgr)
    times = [capture.captured_at for capture in captures]
    assert times == sorted(times)
    assert abs(times[-1] - time.time()) < 30


def udp_sockets():
    """This process's own."""
    inodes = {line.split()[9] for line in Path("/proc/net/udp").read_text().splitlines()[1:]}
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [link for link in links if link.removeprefix("socket:[").removesuffix("]") in inodes]


@pytest.mark.parametrize(
    ("path", "over_udp"),
    [
        pytest.param("video", False, id="a-choice"),
        pytest.param("udp", True, id="no-tcp-there"),
    ],
)
def test_tcp_where_the_camera_has_it(source, server, path, over_udp):
    """OpenCV 4.11 by itself takes UDP where it can."""
    with closing(source("rtsp", url=url(server, path)).captures(Event())) as captures:
        next(captures)
        assert bool(udp_sockets()) is over_udp


@pytest.mark.parametrize(
    ("userinfo", "options"),
    [
        pytest.param("", {"username": USER, "password": PASSWORD}, id="apart"),
        pytest.param(f"{quote(USER)}@", {"password": PASSWORD}, id="password-apart"),
        pytest.param("other:wrong@", {"username": USER, "password": PASSWORD}, id="apart-wins"),
        pytest.param(f"{quote(USER, '')}:{quote(PASSWORD, '')}@", {}, id="in-the-url"),
    ],
)
def test_let_in(source, first, guarded, userinfo, options):
    given = source("rtsp", url=url(guarded, userinfo=userinfo), **options)
    assert first(given, 1)[0].bgr.shape == (360, 640, 3)


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        pytest.param(
            {}, "video", "asks for a user and a password: give username and password", id="none"
        ),
        pytest.param(
            {"username": USER, "password": "wrong"},
            "video",
            "does not accept the user or the password: check both",
            id="wrong",
        ),
        pytest.param(
            {"username": USER, "password": PASSWORD},
            "unknown",
            "has no video that can be decoded here: choose H.264 or H.265 in its settings",
            id="right-but-unknown-codec",
        ),
    ],
)
def test_not_let_in(source, guarded, options, path, message):
    shown = url(guarded, path)
    assert lost(source("rtsp", url=shown, **options)) == f"{shown} {message}"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("other", "has no stream of that path: check what follows", id="no-such-path"),
        pytest.param("unknown", "has no video that can be decoded here", id="unknown-codec"),
    ],
)
def test_no_stream(source, server, path, message):
    assert lost(source("rtsp", url=url(server, path))).startswith(f"{url(server, path)} {message}")


def test_nobody_listens(source):
    shown = f"rtsp://127.0.0.1:{free_port()}/video"
    message = "refuses the connection: check the port, and that RTSP is switched on there"
    assert lost(source("rtsp", url=shown)) == f"{shown} {message}"


def test_no_such_host(source):
    message = "rtsp://no-such-host.invalid/video cannot be found: check the name in the URL, and"
    assert lost(source("rtsp", url="rtsp://no-such-host.invalid/video")).startswith(message)


@pytest.mark.parametrize("accepts", [True, False], ids=["silent", "as-if-not-there"])
def test_nobody_answers(source, accepts):
    with silent_server(accepts) as port:
        shown, begun = f"rtsp://127.0.0.1:{port}/video", time.monotonic()
        message = lost(source("rtsp", url=shown, connect_timeout_s=1, read_timeout_s=100))
    assert time.monotonic() - begun < 20
    assert message.startswith(f"{shown} gave no picture in time: check the address and the network")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", "does not speak RTSP: check the port", id="ssh"),
        pytest.param(b"", "does not speak RTSP: check the port", id="nothing"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak RTSP", id="http"),
        pytest.param(b"RTSP/1.0 x\r\n\r\n", "does not speak RTSP", id="no-number"),
        pytest.param(b"RTSP/1.0 200 OK\r\n" + b"x" * 99999, "does not speak RTSP", id="endless"),
        pytest.param(b"RTSP/1.0 453 No\r\n\r\n", "has no bandwidth left: close", id="bandwidth"),
        pytest.param(b"RTSP/1.0 500 No\r\n\r\n", "answers 500: look that up", id="another"),
        pytest.param(
            b"RTSP/1.0 401 No\r\nWWW-Authenticate: Digest realm\r\n\r\n",
            "does not speak RTSP",
            id="a-broken-challenge",
        ),
        pytest.param(
            b"RTSP/1.0 401 No\r\nWWW-Authenticate: Negotiate\r\n\r\n",
            "does not accept the user or the password",
            id="an-unknown-challenge",
        ),
        pytest.param(b"RTSP/1.0 401 No\r\n\r\n", "does not accept the user", id="no-challenge"),
    ],
)
def test_odd_servers(source, answer, message):
    with server_that_says(answer) as port:
        given = source("rtsp", url=f"rtsp://a:b@127.0.0.1:{port}/", connect_timeout_s=3)
        assert lost(given).startswith(f"rtsp://127.0.0.1:{port}/ {message}")


def test_a_server_that_dies_and_returns(source, tmp_path):
    with rtsp_server(tmp_path) as server:
        camera = source("rtsp", url=url(server), read_timeout_s=100)
        captures = camera.captures(Event())
        next(captures)
        server.kill()
        with pytest.raises(SourceLostError, match="/video ended the stream: check the camera if"):
            read_to_the_end(captures)
        assert lost(camera).endswith(
            "refuses the connection: check the port, and that RTSP is switched on there"
        )
        server.start()
        with closing(camera.captures(Event())) as captures:
            assert next(captures).bgr.shape == (360, 640, 3)


def test_a_server_that_hangs(source, tmp_path):
    with rtsp_server(tmp_path) as server:
        camera = source("rtsp", url=url(server), read_timeout_s=1)
        with closing(camera.captures(Event())) as captures:
            next(captures)
            os.kill(server._process.pid, signal.SIGSTOP)
            begun = time.monotonic()
            with pytest.raises(SourceLostError, match="sent no picture for 1 s: check the camera"):
                read_to_the_end(captures)
            assert time.monotonic() - begun < 20


def test_stop_ends_a_wait(source, tmp_path):
    stop = Event()
    with rtsp_server(tmp_path) as server:
        with closing(source("rtsp", url=url(server), read_timeout_s=2).captures(stop)) as captures:
            next(captures)
            os.kill(server._process.pid, signal.SIGSTOP)
            stop.set()
            begun = time.monotonic()
            try:
                read_to_the_end(captures)
            except SourceLostError:
                pass
            assert time.monotonic() - begun < 20


def test_a_dead_camera_does_not_hold_up_another(source, first, server):
    """OpenCV by itself opens one stream after the other."""
    with silent_server() as port:
        dead = source("rtsp", url=f"rtsp://127.0.0.1:{port}/", connect_timeout_s=30)
        thread = threading.Thread(target=lost, args=[dead])
        thread.start()
        time.sleep(0.5)
        first(source("rtsp", url=url(server), connect_timeout_s=20), 1)
        assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive()


LEAKS = """
import sys, threading
if sys.argv[1] == "opencv":
    import cv2
    cv2.VideoCapture(sys.argv[2], cv2.CAP_FFMPEG)
    sys.exit()
import logging
from runtime.sources import open_source
from runtime.sources.options import RtspOptions
logging.basicConfig(level=logging.DEBUG)
options = RtspOptions(name="c", type="rtsp", url=sys.argv[2], connect_timeout_s=2, read_timeout_s=1)
try:
    captures = open_source(options, "board").captures(threading.Event())
    print(next(captures).bgr.shape, flush=True)
    input()
    for _ in captures:
        pass
except Exception as error:
    logging.warning("%s: %s", options, error)
"""


def said(folder, how, address, between=lambda: None):
    """All that a process of its own says about that address, on both of its outputs."""
    # what users set to see more must not show it either
    noisy = {"OPENCV_LOG_LEVEL": "DEBUG", "OPENCV_FFMPEG_DEBUG": "1", "OPENCV_VIDEOIO_DEBUG": "1"}
    path = folder / "said.txt"
    with path.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", LEAKS, how, address],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=os.environ | noisy,
        )
    wait_for(lambda: "(360, 640, 3)" in path.read_text() or process.poll() is not None, "it", 60)
    between()
    process.communicate(b"\n", timeout=60)
    return path.read_text()


def shows(text):
    return [word for word in ("sesame", b64encode(b"me:sesame").decode()) if word in text]


def test_opencv_by_itself_shows_the_password(tmp_path):
    """Else the next test could not fail."""
    assert shows(said(tmp_path, "opencv", f"rtsp://me:sesame@127.0.0.1:{free_port()}/"))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param("127.0.0.1:{free}/", "refuses the connection", id="nobody-listens"),
        pytest.param("no-such-host.invalid/", "cannot be found", id="no-such-host"),
        pytest.param("127.0.0.1:{silent}/", "gave no picture in time", id="silent"),
        pytest.param("127.0.0.1:{server}/other", "has no stream of that path", id="no-such-path"),
        pytest.param("127.0.0.1:{server}/unknown", "has no video that can", id="unknown-codec"),
        pytest.param("127.0.0.1:{server}/video", "ended the stream", id="dies"),
    ],
)
def test_no_password_is_ever_shown(tmp_path, place, expected):
    with rtsp_server(tmp_path) as server, silent_server() as silent:
        ports = {"free": free_port(), "silent": silent, "server": server.port}
        text = said(tmp_path, "source", f"rtsp://me:sesame@{place.format(**ports)}", server.kill)
    assert expected in text
    assert not shows(text)


def test_no_wrong_password_is_shown(guarded, tmp_path):
    text = said(tmp_path, "source", url(guarded, userinfo="me:sesame@"))
    assert "does not accept the user or the password" in text
    assert not shows(text)


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        pytest.param("rtsp://h/a?b#c", {}, "rtsp://h/a?b#c", id="none"),
        pytest.param("rtsp://u:p@h", {}, "rtsp://u:p@h", id="as-it-is"),
        pytest.param("rtsp://u:p%40@h", {}, "rtsp://u:p%40@h", id="encoded-stays"),
        pytest.param("rtsp://u:p@q@h", {}, "rtsp://u:p%40q@h", id="a-bare-at-sign"),
        pytest.param("rtsp://u:50%@h", {}, "rtsp://u:50%25@h", id="a-bare-percent-sign"),
        pytest.param(
            "rtsp://h:8554/a",
            {"username": "u", "password": ":@/%"},
            "rtsp://u:%3A%40%2F%25@h:8554/a",
        ),
        pytest.param("rtsp://[::1]:554/", {"username": "u"}, "rtsp://u:@[::1]:554/", id="ipv6"),
        pytest.param("rtsp://u@h/", {"password": "p"}, "rtsp://u:p@h/", id="password-apart"),
        pytest.param("rtsp://a:p@h/", {"username": "b"}, "rtsp://b:p@h/", id="other-user"),
    ],
)
def test_url_with_credentials(given, options, expected):
    asked = RtspOptions(name="c", type="rtsp", url=given, **options)
    assert url_with_credentials(asked) == expected
    assert "p" not in options.get("password", "") or "u:p" not in repr(asked)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("rtsp://a:b@h:1/c?d", "rtsp://h:1/c", id="user"),
        pytest.param("rtsp://h/user=a&password=b", "rtsp://h/...", id="in-the-path"),
        pytest.param("rtsp://me:12/34@h/c", "rtsp://me:12/...", id="a-slash-in-it"),
        pytest.param("rtsps://h", "rtsps://h", id="no-path"),
    ],
)
def test_shown(given, expected):
    assert RtspOptions(name="c", type="rtsp", url=given).shown == expected


def test_a_password_needs_a_user():
    with pytest.raises(ValueError, match="there is a password and no username: give both"):
        RtspOptions(name="c", type="rtsp", url="rtsp://h", password="p")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, "rtsp_flags;prefer_tcp", id="none"),
        pytest.param("max_delay;0", "max_delay;0|rtsp_flags;prefer_tcp", id="others-stay"),
        pytest.param("rtsp_transport;udp|a;b", "rtsp_transport;udp|a;b", id="the-users-choice"),
    ],
)
def test_settings_of_the_user_stay(source, monkeypatch, before, after):
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    monkeypatch.delenv(name, raising=False)
    if before:
        monkeypatch.setenv(name, before)
    for _ in range(2):
        source("rtsp", url="rtsp://h")
    assert os.environ[name] == after
