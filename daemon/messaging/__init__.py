"""MQTT: topics, payloads, outbox, publisher, broker."""
