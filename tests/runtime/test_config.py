"""The daemon's configuration: what is refused and how, secrets, the example, the schema."""

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from runtime.config import Config, load_config, schema
from runtime.errors import UserError
from runtime.manifest import Thresholds
from runtime.options import Region, ThresholdOptions
from runtime.secret import shown_url

LEAST = {"model": "bundle", "sources": [{"name": "a", "type": "files", "paths": ["x.mp4"]}]}
GATE = {"name": "gate", "type": "rtsp", "url": "rtsp://viewer:hunter2@10.0.0.1/x?token=t0ken"}
BROKER = {"host": "broker", "username": "me", "password": "hunter2"}


def written(tmp_path, plain):
    path = tmp_path / "rkyolo.yaml"
    path.write_text(plain if isinstance(plain, str) else json.dumps(plain))  # JSON is YAML
    return path


def refusal(tmp_path, plain):
    with pytest.raises(UserError) as caught:
        load_config(written(tmp_path, plain))
    message = str(caught.value)
    assert "\n" not in message and "hunter2" not in message
    return message


@pytest.fixture
def example(root, monkeypatch):
    monkeypatch.setenv("GATE_PASSWORD", "hunter2")
    monkeypatch.setenv("BROKER_PASSWORD", "hunter3")
    return root / "runtime" / "service" / "rkyolo.yaml"


@pytest.fixture
def root():
    from conftest import ROOT

    return ROOT


def test_the_least_there_can_be(tmp_path):
    config = load_config(written(tmp_path, LEAST))
    assert config.engine.contexts_per_core == 2 and config.engine.cores is None
    assert config.http is None and config.sinks == () and config.board


def test_the_example_is_good(example):
    config = load_config(example)
    assert [source.name for source in config.sources] == ["gate", "door"]
    assert config.sink_names == ("jsonl", "snapshots", "mqtt")
    assert config.sources[0].password.get_secret_value() == "hunter2"


def test_what_the_example_leaves_commented_is_good_too(example, tmp_path):
    """Uncommented, in pieces, as users will."""
    text = example.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    plain = []
    for line in lines:
        body = line.strip().removeprefix("# ")
        looks_like_yaml = body.startswith(("- {", "tls:", "home_assistant:", "cores:", "cpus:"))
        if line.strip().startswith("# ") and looks_like_yaml:
            line = line.replace("# ", "", 1)
        plain.append(line)
    text = "\n".join(plain).replace("https://example.com/hook", "https://example.com/hook")
    text = text.replace("{env: HOOK_TOKEN}", "secret")
    config = load_config(written(tmp_path, text))
    assert {sink.type for sink in config.sinks} >= {"jsonl", "mqtt", "video", "webhook"}
    assert {source.type for source in config.sources} >= {"rtsp", "camera", "files", "mqtt"}
    assert config.engine.cores == (0, 1, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"modle": "x"}, "modle: there is no such key"),
        ({"sources": []}, "sources is empty"),
        ({"sources": [{"name": "a", "type": "file"}]}, "sources.0: Input tag 'file'"),
        ({"sources": [{"name": "a b", "type": "files", "paths": ["x"]}]}, "sources.0.name"),
        ({"sources": [*LEAST["sources"], *LEAST["sources"]]}, "two sources are called a"),
        ({"sources": [GATE | {"url": "http://x:hunter2@y/"}]}, "sources.0.url: it is no address"),
        ({"sources": [GATE | {"url": "rtsp://"}]}, "sources.0.url: it is no address like"),
        ({"sources": [GATE | {"rate": 0}]}, "sources.0.rate"),
        ({"sources": [GATE | {"url": {"env": "NOT_SET"}}]}, "variable NOT_SET is not set"),
        ({"sources": [GATE | {"password": {"file": "/no/such"}}]}, "/no/such cannot be read"),
        ({"sources": [GATE | {"password": {"vault": "x"}}]}, "give {env: NAME}, {file: PATH}"),
        ({"sources": [GATE | {"region": {"x": 0.5, "width": 0.6}}]}, "reaches beyond the pic"),
        ({"sources": [GATE | {"region": {"width": 0}}]}, "a width and a height above 0"),
        ({"sources": [GATE | {"thresholds": {"score": 1.5}}]}, "sources.0.thresholds.score"),
        ({"sources": [{"name": "c", "type": "command", "command": "ffmpeg -i x", "width": 8,
                       "height": 8}]}, "give a list"),
        ({"sinks": [{"type": "jsonl", "path": "x", "sources": ["b"]}]}, "no source is called b"),
        ({"sinks": [{"type": "jsonl", "path": "x"}] * 2}, "two sinks are called jsonl"),
        ({"sinks": [{"type": "mqtt", "broker": BROKER}]}, "sinks.0.outbox: Field required"),
        ({"sinks": [{"type": "webhook", "url": "ftp://x"}]}, "sinks.0.url: it is no address"),
        ({"http": {"host": "0.0.0.0"}}, "others can reach it: give a token"),
        ({"http": {"host": "::"}}, "others can reach it: give a token"),
        ({"http": {"host": "board.local"}}, "others can reach it: give a token"),
        ({"http": {"host": "0.0.0.0", "token": "hunter2"}}, "at least 16 characters"),
        ({"engine": {"cores": [0, 0]}}, "one of them stands there twice"),
        ({"engine": {"cores": [3]}}, "engine.cores.0"),
        ({"engine": {"deadline_s": float("nan")}}, "engine.deadline_s"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, change, says):
    assert says in refusal(tmp_path, LEAST | change)


def test_all_problems_at_once(tmp_path):
    message = refusal(
        tmp_path, {"sources": [GATE | {"rat": 1}], "http": {"port": 99999}, "drain_s": -1}
    )
    for part in ("model: Field required", "sources.0.rat", "http.port", "drain_s"):
        assert part in message


@pytest.mark.parametrize(
    "text",
    ["", "[]", "just words", "a: [", "a: &x 1\nb: *x", "\x00", "a: !!python/object:os.system"],
)
def test_what_is_no_configuration(tmp_path, text):
    assert "rkyolo.yaml" in refusal(tmp_path, text)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_config(tmp_path / "none.yaml")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(UserError, match="cannot be read"):
        load_config(path)


def test_loopback_needs_no_token(tmp_path):
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        config = load_config(written(tmp_path, LEAST | {"http": {"host": host}}))
        assert config.http.loopback
    token = {"host": "0.0.0.0", "token": "0123456789abcdef"}
    assert not load_config(written(tmp_path, LEAST | {"http": token})).http.loopback


def test_secrets_are_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("PW", "hunter2")
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    plain = LEAST | {
        "sources": [GATE | {"username": "u", "password": {"env": "PW"}}],
        "sinks": [
            {"type": "mqtt", "broker": BROKER, "outbox": "o.db"},
            {"type": "webhook", "url": "https://u:hunter2@h/p?key=hunter2",
             "headers": {"A": {"file": str(secret)}}},
        ],
    }  # fmt: skip
    config = load_config(written(tmp_path, plain))
    assert config.sources[0].password.get_secret_value() == "hunter2"
    assert config.sinks[1].headers["A"].get_secret_value() == "hunter2"
    shown = repr(config) + str(config) + config.model_dump_json()
    shown += "".join(part.shown for part in (*config.sources, *config.sinks))
    assert "hunter2" not in shown and "t0ken" not in shown
    assert config.sources[0].shown == "rtsp://10.0.0.1/x"


def test_urls_are_shown_without_secrets():
    assert shown_url("rtsp://u:p@h:554/a/b?x=1#f") == "rtsp://h:554/a/b"


def test_the_schema_agrees_with_the_models(tmp_path, example):
    validator = Draft202012Validator(json.loads(schema()))
    Draft202012Validator.check_schema(json.loads(schema()))
    assert not list(validator.iter_errors(yaml.safe_load(example.read_text())))
    assert list(validator.iter_errors(LEAST | {"modle": 1}))
    assert list(validator.iter_errors({"model": "x", "sources": [{"type": "rtsp"}]}))


def test_thresholds_lie_over_one_another():
    bundle = Thresholds(score=0.3, class_score={"a": 0.5, "b": 0.6})
    over = ThresholdOptions(iou=0.2, class_score={"a": 0.7}).over(bundle)
    assert (over.score, over.iou, over.class_score) == (0.3, 0.2, {"a": 0.7, "b": 0.6})
    assert ThresholdOptions(classes=("a",)).over(over).classes == ("a",)
    assert ThresholdOptions().over(bundle) == bundle


@pytest.mark.parametrize(
    ("region", "pixels"),
    [
        (Region(), (0, 0, 100, 50)),
        (Region(x=0.5, width=0.5), (50, 0, 100, 50)),
        (Region(x=0.999, y=1 - 1e-9, width=0.001, height=1e-9), (99, 49, 100, 50)),  # one pixel
        (Region(x=0.25, y=0.5, width=0.5, height=0.25), (25, 25, 75, 38)),
    ],
)
def test_a_region_in_pixels(region, pixels):
    x1, y1, x2, y2 = region.pixels((100, 50))
    assert (x1, y1, x2, y2) == pixels


def test_board_is_a_name_even_where_the_host_has_a_strange_one(monkeypatch):
    monkeypatch.setattr("runtime.config.socket.gethostname", lambda: "my.board/x")
    assert Config.model_validate(LEAST).board == "my-board-x"
