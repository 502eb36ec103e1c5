"""MQTT: the broker's options, and what the sink, the source and the client share."""
