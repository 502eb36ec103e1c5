"""What is announced to Home Assistant, rendered as Home Assistant renders it."""

import json

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime import __version__
from runtime.mqtt.home_assistant import announcement

EVENT = {
    "captured_at": 12.5,
    "detections": [{"name": "circle"}, {"name": "star"}, {"name": "circle"}],
}


def announced(board="porch", source="door"):
    return announcement(
        "homeassistant", board, source, "rkyolo/porch/door/detections", "rkyolo/porch/state"
    )


def rendered(key, event):
    template = json.loads(announced().payload)[key]
    return ImmutableSandboxedEnvironment().from_string(template).render(value_json=event)


def test_a_sensor_that_belongs_to_the_board():
    message = announced()
    assert message.topic == "homeassistant/sensor/rkyolo-porch/door/config"
    plain = json.loads(message.payload)
    assert plain["unique_id"] == "rkyolo/porch/door/detections"
    assert plain["state_topic"] == plain["json_attributes_topic"] == "rkyolo/porch/door/detections"
    assert plain["availability_topic"] == "rkyolo/porch/state"
    assert plain["device"]["identifiers"] == ["rkyolo/porch"]
    assert plain["device"]["name"] == "porch"
    assert plain["origin"] == {"name": "rkyolo", "sw_version": __version__}


@pytest.mark.parametrize(
    ("detections", "count", "classes"),
    [
        pytest.param(EVENT["detections"], "3", {"circle": 2, "star": 1}, id="some"),
        pytest.param([], "0", {}, id="none"),
    ],
)
def test_its_templates_count(detections, count, classes):
    event = EVENT | {"detections": detections}
    assert rendered("value_template", event) == count
    attributes = json.loads(rendered("json_attributes_template", event))
    assert attributes == {"classes": classes, "captured_at": 12.5}


def test_boards_and_sources_do_not_mix():
    one, other = announced("a-b", "c"), announced("a", "b-c")
    assert one.topic != other.topic
    assert json.loads(one.payload)["unique_id"] != json.loads(other.payload)["unique_id"]
