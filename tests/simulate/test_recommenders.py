"""The person at the console."""

import io
from pathlib import Path

import pytest

from recsys.simulate.listeners import load_listeners
from recsys.simulate.recommenders import ConsoleRecommender
from recsys.simulate.run import run_in_process


def test_a_person_plays_a_whole_session(world: Path) -> None:
    listeners = load_listeners(world)
    screen = io.StringIO()
    person = ConsoleRecommender(listeners.catalogue, io.StringIO("3\n" * 50 + "\n-1\nsix\n4\n" + "3\n" * 200), screen)
    result = run_in_process(listeners, person, episodes=2, seed=8, slots=1, progress=False)
    assert result.episodes == 2
    text = screen.getvalue()
    assert text.count("and left after") == 2
    title = listeners.catalogue.titles[3]
    assert f"0 % of 3, {title} by " in text


def test_the_end_of_input_ends_politely(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listeners = load_listeners(world)
    person = ConsoleRecommender(listeners.catalogue, io.StringIO("x\n999\n5\n"))
    result = run_in_process(listeners, person, episodes=2, seed=8, slots=1, progress=False)
    assert (result.episodes, result.next) == (0, 1)
    assert capsys.readouterr().err.count("is no track") == 2
