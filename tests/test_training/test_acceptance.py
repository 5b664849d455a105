"""What is asked of models before they are shipped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer

from training.acceptance import ON_PICTURES, ON_SCENES, accepted
from training.evaluate_cli import evaluate
from training.metrics import ALL, GroupMeasures, Scoreboard
from training.samples import Sample
from training.scenes import SceneSource
from training.verdict import Found


def perfect(samples: list[Sample]) -> dict[str, GroupMeasures]:
    """Measures of the truth itself."""
    board = Scoreboard()
    for sample in samples:
        assert sample.instances is not None
        board.add(sample, Found(parts=sample.parts, instances=sample.instances))
    return board.measures()


@pytest.fixture(scope="module")
def on_scenes() -> dict[str, GroupMeasures]:
    source = SceneSource(990_000, 12)  # of all three groups
    return perfect([source[index] for index in range(len(source))])


def test_the_truth_is_accepted(on_scenes: dict[str, GroupMeasures]) -> None:
    outcomes = accepted(on_scenes, tells_apart=True)
    assert len(outcomes) == len(ON_SCENES) == 6
    assert all(outcome.held for outcome in outcomes)


def test_one_measure_below_its_least_is_missed_alone(on_scenes: dict[str, GroupMeasures]) -> None:
    huddle = on_scenes["huddle"]
    assert huddle.animals is not None
    worse = {**on_scenes, "huddle": replace(huddle, animals=replace(huddle.animals, pq=0.549))}
    (missed,) = [outcome for outcome in accepted(worse, tells_apart=True) if not outcome.held]
    assert (missed.requirement.measure, missed.requirement.group) == ("PQ animals", "huddle")
    worse["huddle"] = replace(huddle, animals=replace(huddle.animals, pq=0.55))
    assert all(outcome.held for outcome in accepted(worse, tells_apart=True))


def test_a_group_without_pictures_is_not_enough(on_scenes: dict[str, GroupMeasures]) -> None:
    without = {name: group for name, group in on_scenes.items() if name != "touching"}
    (missed,) = [outcome for outcome in accepted(without, tells_apart=True) if not outcome.held]
    assert missed.requirement.group == "touching"
    assert missed.figure is None


def test_a_network_that_cannot_tell_animals_apart_is_asked_for_parts_alone(
    on_scenes: dict[str, GroupMeasures],
) -> None:
    asked = {outcome.requirement.measure for outcome in accepted(on_scenes, tells_apart=False)}
    assert asked == {"mean IoU head, body, tail"}


def test_pictures_that_are_no_scenes_have_requirements_of_their_own() -> None:
    scene = SceneSource(990_003, 1)[0]  # one animal with head, body and tail
    picture = Sample(name="real", celsius=scene.celsius, parts=scene.parts, instances=scene.instances)
    outcomes = accepted(perfect([picture]), tells_apart=True)
    assert [outcome.requirement for outcome in outcomes] == list(ON_PICTURES)
    assert all(outcome.held for outcome in outcomes)
    blind = Scoreboard()
    empty = np.zeros_like(scene.parts)
    blind.add(picture, Found(parts=empty, instances=empty))
    assert not any(outcome.held for outcome in accepted(blind.measures(), tells_apart=True))
    assert set(blind.measures()) == {ALL}


def test_the_command_ends_with_an_error_where_too_little_is_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        evaluate(tmp_path / "out", classical=True, count=4, accept=True)
    assert ended.value.exit_code == 1
    assert "MISSED" in capsys.readouterr().out
    assert (tmp_path / "out" / "metrics.json").exists(), "the results are there all the same"
