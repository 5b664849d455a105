"""What the worker has stored, told to the broker."""

from daemon.messaging import topics
from daemon.messaging.payloads import animal_payload, block_payload, observation_payload
from daemon.messaging.publisher import Publisher
from daemon.observation import FrameObservation
from daemon.schedule import PlannedBlock
from daemon.store.repository import Coverage


class MqttAnnouncer:
    """Hands stored rows to the publisher; no method waits."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def observed(self, observation: FrameObservation) -> None:
        """A stored observation: one message for the frame, and the newest state of each animal."""
        self._publisher.publish_observation(observation_payload(observation))
        for animal in observation.animals:
            self._publisher.set_retained(topics.animal(animal.animal), animal_payload(observation, animal))

    def block_changed(self, block: PlannedBlock, state: str, coverage: Coverage) -> None:
        """A block began or ended, and is stored."""
        self._publisher.set_retained(
            topics.BLOCK,
            block_payload(
                block=block.key,
                state=state,
                start_utc_ns=block.start_utc_ns,
                end_utc_ns=block.end_utc_ns,
                expected=coverage.expected,
                captured=coverage.captured,
                missing_by_reason=coverage.missing_by_reason,
            ),
        )

    def events_stored(self) -> None:
        """The outbox has new messages."""
        self._publisher.notify()


class Silence:
    """Nobody is told: the service without MQTT."""

    def observed(self, observation: FrameObservation) -> None:
        """See `MqttAnnouncer`."""

    def block_changed(self, block: PlannedBlock, state: str, coverage: Coverage) -> None:
        """See `MqttAnnouncer`."""

    def events_stored(self) -> None:
        """See `MqttAnnouncer`."""
