"""Home Assistant: the announcement by which it shows a source without being configured.

The format is Home Assistant's MQTT discovery of single components:
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

import json

from runtime import __version__
from runtime.mqtt.connection import Message

_COUNT = "{{ value_json.detections | count }}"
_CLASSES = (
    "{% set found = namespace(counts={}) %}"
    "{% for one in value_json.detections %}"
    "{% set n = found.counts.get(one.name, 0) + 1 %}"
    "{% set found.counts = dict(found.counts, **{one.name: n}) %}"
    "{% endfor %}"
    "{{ {'classes': found.counts, 'captured_at': value_json.captured_at} | tojson }}"
)


def announcement(prefix: str, board: str, source: str, topic: str, state_topic: str) -> Message:
    """To be kept by the broker: a sensor of how many objects the source sees, and as attributes how
    many of each class. prefix: Home Assistant's own. topic: of the source's detections."""
    software = {"name": "rkyolo", "sw_version": __version__}
    plain = {
        "name": source,
        "unique_id": f"rkyolo/{board}/{source}/detections",
        "state_topic": topic,
        "value_template": _COUNT,
        "unit_of_measurement": "objects",
        "state_class": "measurement",
        "icon": "mdi:eye",
        "json_attributes_topic": topic,
        "json_attributes_template": _CLASSES,
        "availability_topic": state_topic,
        "qos": 1,
        "device": {
            "identifiers": [f"rkyolo/{board}"],
            "name": board,
            "model": "rkyolo",
            "sw_version": __version__,
        },
        "origin": software,
    }
    # board and source as two levels: joined in one, a-b and c would be the same as a and b-c
    return Message(f"{prefix}/sensor/rkyolo-{board}/{source}/config", json.dumps(plain).encode())
