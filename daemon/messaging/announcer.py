"""What the worker has stored, told to the broker."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from daemon.events import Event
from daemon.messaging import topics
from daemon.messaging.payloads import (
    NO_NAMES,
    AnimalNames,
    alert_payload,
    animal_payload,
    block_payload,
    cage_payload,
    observation_payload,
)
from daemon.messaging.publisher import Publisher
from daemon.minute_value import MinuteValue
from daemon.observation import AnimalObservation, FrameObservation
from daemon.schedule import PlannedBlock
from daemon.store.repository import Coverage
from drivers.errors import StoreError

logger = logging.getLogger(__name__)


class MqttAnnouncer:
    """Hands stored rows to the publisher; no method waits for the broker. All but `events_stored` belong to one thread.

    Parameters
    ----------
    publisher : Publisher
        Sends it.
    open_events : callable
        Asks the database for the events whose conditions are open, each with the severity that it has now.
    names : mapping
        Of the animals.
    """

    def __init__(
        self, publisher: Publisher, open_events: Callable[[], Sequence[Event]], names: AnimalNames = NO_NAMES
    ) -> None:
        self._publisher = publisher
        self._names = names
        self._open_events = open_events
        self._seen: dict[int, tuple[FrameObservation, AnimalObservation]] = {}
        self._minutes: dict[int | None, list[MinuteValue]] = {}
        self._asking = threading.Lock()

    def observed(self, observation: FrameObservation) -> None:
        """A stored observation: one message for the frame, and the newest state of each animal that is known."""
        self._publisher.publish_observation(observation_payload(observation, self._names))
        for animal in observation.animals:
            if animal.animal is not None:
                self._seen[animal.animal] = (observation, animal)
                self._tell_animal(animal.animal)

    def measured(self, values: Iterable[MinuteValue]) -> None:
        """The stored measures of minutes that are over; of each animal the newest one counts."""
        minutes: dict[int | None, list[MinuteValue]] = {}
        for value in sorted(values, key=lambda each: each.minute_utc_ns):
            minute = minutes.setdefault(value.animal, [])
            if minute and minute[0].minute_utc_ns < value.minute_utc_ns:
                minute.clear()
            minute.append(value)
        self._minutes |= minutes
        for number, minute in minutes.items():
            if number is None:
                self._publisher.set_retained(topics.CAGE, cage_payload(minute))
            elif number in self._seen:
                self._tell_animal(number)

    def _tell_animal(self, number: int) -> None:
        observation, animal = self._seen[number]
        payload = animal_payload(observation, animal, self._minutes.get(number, ()), self._names)
        self._publisher.set_retained(topics.animal(number), payload)

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
        """The outbox has new messages, and other conditions may be open. From any thread."""
        self._publisher.notify()
        with self._asking:  # whoever asks last also tells last
            try:
                opened = self._open_events()
            except StoreError as error:
                logger.warning("which conditions are open is told with the next event: %s", error)
            else:
                self._publisher.set_retained(topics.ALERT, alert_payload(opened, self._names))


class Silence:
    """Nobody is told: the service without MQTT."""

    def observed(self, observation: FrameObservation) -> None:
        """See `MqttAnnouncer`."""

    def measured(self, values: Iterable[MinuteValue]) -> None:
        """See `MqttAnnouncer`."""

    def block_changed(self, block: PlannedBlock, state: str, coverage: Coverage) -> None:
        """See `MqttAnnouncer`."""

    def events_stored(self) -> None:
        """See `MqttAnnouncer`."""
