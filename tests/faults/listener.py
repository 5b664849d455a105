"""Somebody in a process of its own who listens to events and tells at the end what came: LISTENER PORT.

Says `ready` when it listens, goes on until its standard input is closed, and then prints one JSON object.
"""

import json
import sys
from array import array

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion


def main(port: int) -> None:
    """Listen."""
    heard = array("q")
    alarms: list[int] = []

    def subscribed(*_: object) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    def hear(_client: object, _data: object, message: paho.MQTTMessage) -> None:
        event = json.loads(message.payload)
        heard.append(event["seq"])
        if event["severity"] != "notice":
            alarms.append(event["seq"])

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
    client.reconnect_delay_set(1, 1)
    client.on_connect = lambda client, *_: client.subscribe("vivarium/+/event/+", qos=1)
    client.on_subscribe = subscribed
    client.on_message = hear
    client.connect("127.0.0.1", port)
    client.loop_start()
    sys.stdin.read()
    client.disconnect()
    client.loop_stop()
    first = list(dict.fromkeys(heard))
    summary = {
        "heard": len(heard),
        "distinct": len(first),
        "in_order": first == sorted(first),
        "first": first[:1],
        "last": first[-1:],
        "alarms": sorted(set(alarms)),
    }
    sys.stdout.write(json.dumps(summary) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
