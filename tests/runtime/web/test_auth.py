"""Who gets an answer, and who does not."""

import http.client
import json
import logging
import re
import time
from urllib.parse import urlencode

import pytest

from runtime.web.app import Site
from runtime.web.auth import HEADERS, Failures, _seal

TOKEN = "a-token-nobody-guesses"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ENDLESS = ("/stream/", "/api/detections")


def routes(view):
    """An address of every route there is."""
    site = Site(view, 10)
    site.close()
    found = [re.sub(r"\{\w+\}", "door", route.path) for route in site.app().routes]
    assert len(found) >= 12
    return found


@pytest.fixture
def view(make_view):
    view = make_view(moving=False)
    view.give(view.result("door", 0))
    return view


class Client:
    """A client on a connection of its own a request."""

    def __init__(self, server, host="127.0.0.1"):
        self.address = (host, server.address[1])

    def ask(self, method, path, body=None, **headers):
        """(status, headers, the body; of an endless one its beginning)."""
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            answer = connection.getresponse()
            endless = path.startswith(ENDLESS) and answer.status == 200
            data = answer.read1() if endless else answer.read()
            return answer.status, answer.headers, data
        finally:
            connection.close()

    def log_in(self, token, **headers):
        form = {"Content-Type": "application/x-www-form-urlencoded"} | headers
        return self.ask("POST", "/login", urlencode({"token": token}), **form)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "::"])
def test_no_route_answers_without_the_token(view, serve, host):
    addresses = [*routes(view), "/login", "/nothing", "/stream/nobody", "//", "/../script.js"]
    with serve(view, host=host, token=TOKEN) as server:
        client = Client(server, "::1" if ":" in host else "127.0.0.1")
        for path in addresses:
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
                status, headers, body = client.ask(method, path)
                assert status == 401, (method, path)
                assert headers["WWW-Authenticate"].startswith("Bearer")
                assert b"porch" not in body and b"door" not in body
        for path in routes(view):
            assert client.ask("GET", path, **BEARER)[0] == 200, path


WRONG = {
    "another token": f"Bearer {TOKEN}x",
    "the beginning of it": f"Bearer {TOKEN[:-1]}",
    "nothing": "Bearer ",
    "no kind": TOKEN,
    "basic": "Basic Omthb2tlbg==",
    "not ASCII": "Bearer ä" + TOKEN,
    "two": f"Bearer {TOKEN} {TOKEN}",
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_what_is_not_the_token(view, serve, value):
    with serve(view, token=TOKEN) as server:
        assert Client(server).ask("GET", "/api/state", Authorization=value)[0] == 401


def test_the_token_in_the_address_is_not_looked_at(view, serve):
    with serve(view, token=TOKEN) as server:
        assert Client(server).ask("GET", f"/api/state?token={TOKEN}")[0] == 401


def test_a_token_of_any_letters(view, serve):
    token = "schlüssel-für-die-tür"
    with serve(view, token=token) as server:
        client = Client(server)
        sent = f"Bearer {token}".encode().decode("latin-1")
        assert client.ask("GET", "/api/state", Authorization=sent)[0] == 200
        assert client.log_in(token)[0] == 303


def test_a_browser_logs_in(view, serve):
    with serve(view, host="0.0.0.0", token=TOKEN) as server:
        client = Client(server)
        status, headers, body = client.ask("GET", "/", Accept="text/html,*/*")
        assert status == 401
        assert b"<form" in body and b"<script" not in body
        assert "sha256-" in headers["Content-Security-Policy"]
        status, headers, _ = client.log_in(TOKEN)
        assert (status, headers["Location"]) == (303, "/")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert TOKEN not in cookie
        kept = cookie.partition(";")[0]
        assert client.ask("GET", "/api/state", Cookie=kept)[0] == 200
        assert client.ask("GET", "/login", Cookie=kept)[0] == 303


def test_a_session_outlives_a_restart_and_ends_with_its_token(view, serve):
    with serve(view, token=TOKEN) as server:
        port = server.address[1]
        kept = Client(server).log_in(TOKEN)[1]["Set-Cookie"].partition(";")[0]
    with serve(view, token=TOKEN, port=port) as server:
        assert Client(server).ask("GET", "/api/state", Cookie=kept)[0] == 200
    with serve(view, token=TOKEN + "-new", port=port) as server:
        assert Client(server).ask("GET", "/api/state", Cookie=kept)[0] == 401


@pytest.mark.parametrize(
    "change",
    [
        lambda expires, seal: f"{int(expires) + 1}-{seal}",
        lambda expires, seal: f"{int(time.time()) - 1}-{seal}",
        lambda expires, seal: f"{expires}-{'0' * 64}",
        lambda expires, seal: f"{expires}-",
        lambda expires, seal: TOKEN,
        lambda expires, seal: "",
    ],
    ids=["later", "over", "no seal", "cut", "the token", "empty"],
)
def test_a_changed_session_is_none(view, serve, change):
    with serve(view, token=TOKEN) as server:
        client = Client(server)
        kept = client.log_in(TOKEN)[1]["Set-Cookie"].partition(";")[0]
        name, _, value = kept.partition("=")
        changed = f"{name}={change(*value.split('-'))}"
        assert client.ask("GET", "/api/state", Cookie=changed)[0] == 401


@pytest.mark.parametrize(("left_s", "status"), [(60, 200), (-1, 401)])
def test_a_session_ends_when_its_time_is_over(view, serve, left_s, status):
    expires = int(time.time()) + left_s
    with serve(view, token=TOKEN) as server:
        kept = f"rkyolo_{server.address[1]}={expires}-{_seal(TOKEN.encode(), expires)}"
        assert Client(server).ask("GET", "/api/state", Cookie=kept)[0] == status


FORMS = {
    "no field": b"key=1",
    "empty": b"",
    "huge": b"token=" + b"a" * 10_000,
    "many fields": b"&".join(b"a=%d" % i for i in range(100)),
    "not a form": bytes(range(256)),
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_forms_that_are_none(view, serve, body):
    with serve(view, token=TOKEN) as server:
        client = Client(server)
        assert client.ask("POST", "/login", body)[0] == 401
        assert client.ask("GET", "/healthz", **BEARER)[0] == 200


def test_guessing_is_slowed_and_logged(view, serve, caplog):
    caplog.set_level(logging.INFO)
    with serve(view, token=TOKEN) as server:
        client = Client(server)
        kept = client.log_in(TOKEN)[1]["Set-Cookie"].partition(";")[0]
        for i in range(Failures.LIMIT):
            assert client.log_in(f"guess-{i}")[0] == 401
        status, headers, _ = client.log_in(TOKEN)
        assert status == 429
        assert 0 < int(headers["Retry-After"]) <= Failures.PERIOD_S
        assert client.ask("GET", "/", **BEARER)[0] == 429
        assert client.ask("GET", "/", Cookie=kept)[0] == 200  # who is in stays in
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == Failures.LIMIT
    assert warnings[0] == "127.0.0.1 gave a wrong token (1 of 10)"
    assert "guess" not in caplog.text and TOKEN not in caplog.text


def test_failures_are_of_an_address_and_pass(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    failures = Failures()
    for _ in range(Failures.LIMIT):
        assert failures.wait_s("a") == 0
        failures.add("a")
    assert failures.wait_s("a") == Failures.PERIOD_S
    assert failures.wait_s("b") == 0
    now[0] += Failures.PERIOD_S + 1
    assert failures.wait_s("a") == 0
    failures.add("a")
    assert failures.wait_s("a") == 0


def test_failures_of_many_addresses_take_no_more_room():
    failures = Failures()
    for i in range(Failures.ADDRESSES * 2):
        failures.add(str(i))
    assert len(failures._counts) == Failures.ADDRESSES


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "127.3.2.1"])
def test_on_loopback_its_own_names_are_answered(view, serve, host):
    with serve(view) as server:
        for name in (host, f"{host}:{server.address[1]}"):
            assert Client(server).ask("GET", "/api/state", Host=name)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[", ""],
)
def test_on_loopback_other_names_are_refused_on_every_route(view, serve, host):
    with serve(view) as server:
        for path in [*routes(view), "/login", "/nothing"]:
            status, _, body = Client(server).ask("GET", path, Host=host)
            assert status == 403
            assert json.loads(body) == {
                "error": "open it as localhost or 127.0.0.1: other names need a token"
            }


@pytest.mark.parametrize("token", [None, TOKEN])
def test_other_sites_pages_are_refused(view, serve, token):
    with serve(view, token=token) as server:
        client = Client(server)
        allowed = BEARER if token else {}
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            status, _, body = client.log_in(TOKEN, Origin=origin)
            assert status == 403
            assert json.loads(body) == {"error": "a page of another site asked for this"}
        foreign = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
        assert client.ask("GET", "/snapshot/door.jpg", **allowed, **foreign)[0] == 403
        link = foreign | {"Sec_Fetch_Mode": "navigate"}
        assert client.ask("GET", "/", **allowed, **link)[0] == 200


def test_the_login_of_the_own_page_is_not_foreign(view, serve):
    with serve(view, token=TOKEN) as server:
        origin = f"http://127.0.0.1:{server.address[1]}"
        assert Client(server).log_in(TOKEN, Origin=origin)[0] == 303


def test_every_answer_has_the_headers(view, serve):
    with serve(view) as server:
        for path in [*routes(view), "/nothing"]:
            headers = Client(server).ask("GET", path)[1]
            assert {name: headers[name] for name in HEADERS} == HEADERS, path
    with serve(view, token=TOKEN) as server:
        for accept in ("text/html", "application/json"):
            headers = Client(server).ask("GET", "/", Accept=accept)[1]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_the_token_is_nowhere(view, serve, caplog):
    caplog.set_level(logging.DEBUG)
    with serve(view, token=TOKEN) as server:
        client = Client(server)
        client.log_in(TOKEN)
        client.log_in("wrong")
        for path in [*routes(view), "/nothing"]:
            _, headers, body = client.ask("GET", path, **BEARER)
            assert TOKEN.encode() not in body
            assert TOKEN not in str(headers)
    assert TOKEN not in caplog.text
