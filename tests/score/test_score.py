"""A score of a model: what it holds, what is kept of it, and its page. Models are fitted in this process here."""

import html
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from benchmarks.histories import random_history
from recsys.cli import app
from recsys.exceptions import InvalidInputError, UnavailableError
from recsys.score import bench, fit, public_data, score, worlds
from recsys.score.document import Score
from recsys.score.page import headline, told, write_page
from recsys.score.results import Results
from recsys.score.score import Asked
from recsys.settings import Settings, load_settings

pytestmark = pytest.mark.slow

TINY = worlds.Size(tracks=300, users=60, explored=2000, played=300)
FITTED: list[tuple[str, str]] = []


@pytest.fixture(scope="module", autouse=True)
def _in_process() -> Iterator[None]:
    def run(job: fit.Job, directory: Path, *_: object) -> fit.Arrays:
        FITTED.append((job.model, job.data))
        return fit.fit(job, directory)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.process, "run", run)
        yield


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(var=tmp_path_factory.mktemp("var"))


@pytest.fixture(scope="module")
def found(settings: Settings) -> Score:
    """The score of somebody's model in two worlds."""
    return score.score(settings, replace(ask("somebody:Counts"), seeds=(1, 2)))


def ask(model: str, **more: object) -> Asked:
    return replace(Asked(model, TINY, seeds=(1,), public=False), **more)


def test_a_score_stands_beside_the_baselines(found: Score) -> None:
    assert found.label == found.arm == "Counts"
    assert found.config == {"kept": 0.5}
    assert [(row.data, row.model) for row in found.held_out] == [
        (world, model) for world in ("world 1", "world 2") for model in ("popularity", "ease", "dae", "Counts")
    ]
    for row in found.held_out:
        assert row.users == 6
        assert row.ndcg_100.low <= row.ndcg_100.value <= row.ndcg_100.high
    assert {arm for row in found.sessions for arm in row.against} == {"C", "T1", "oracle"}
    for world in ("world 1", "world 2", "together"):
        own, oracle = found.session(world, "Counts"), found.session(world, "oracle")
        assert oracle.time.value > own.time.value > 1
        gap = own.against["oracle"]
        assert gap.value == pytest.approx(own.time.value - oracle.time.value, abs=2e-4)
        assert gap.low < gap.value < gap.high < 0
        assert 0 < own.coverage <= 1
        assert oracle.of_oracle == 1
    both = [found.session(world, "Counts").time.value for world in ("world 1", "world 2")]
    assert found.session("together", "Counts").time.value == pytest.approx(np.mean(both), abs=1e-4)


def test_the_page_needs_nothing_else_and_says_what_the_document_holds(found: Score, tmp_path: Path) -> None:
    page = write_page(tmp_path, found).read_text()
    assert Score.parse((tmp_path / "score.json").read_bytes(), "score.json") == found
    said = " ".join(html.unescape(re.sub("<[^>]+>", " ", page)).split())
    for part in (headline(found), "Counts's list", "a policy that knows the world", "Public data were left out.", "kept 0.5"):
        assert part in said
    assert not re.search(r"<script|src=|href=|@import", page)
    assert headline(found) in told(found)


def test_a_second_score_fits_the_person_s_model_alone(settings: Settings, found: Score) -> None:
    FITTED.clear()
    again = score.score(settings, ask("somebody:Counts"))
    assert FITTED == [("somebody:Counts", "world 1")]
    assert [row for row in again.sessions if row.world == "world 1"] == [row for row in found.sessions if row.world == "world 1"]
    assert [row.ndcg_100 for row in again.held_out] == [row.ndcg_100 for row in found.held_out[:4]]


def test_a_built_in_model_is_t1_or_stands_beside_it(settings: Settings, found: Score, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        of_t1 = score.score(settings, ask("dae"))
    assert of_t1.arm == "T1"
    assert set(of_t1.session("world 1", "T1").against) == {"C", "oracle"}
    steps = [record.getMessage() for record in caplog.records if record.getMessage().startswith("step ")]
    assert steps[0] == "step 1 of 7: world 1"
    assert steps[-1] == "step 7 of 7: world 1: a policy that knows the world plays"
    assert score.score(settings, ask("ease")).session("world 1", "ease").coverage > 0
    response = score.score(settings, ask("response"))
    assert {row.arm for row in response.sessions} == {"C", "T1", "response", "oracle"}


def test_public_data_are_judged_where_they_are(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(*, fetch: bool) -> csr_matrix:
        raise UnavailableError("it is far away")

    monkeypatch.setattr(public_data, "raters_of_films", absent)
    lines = ["userID\tartistID\tweight"]
    lines += [f"{user}\t{track}\t1" for user, track in zip(*random_history(60, 80, 12).nonzero(), strict=True)]
    (tmp_path / public_data.ARTISTS).write_text("\n".join(lines) + "\n")
    found = score.score(settings, ask("response", public=True, data=tmp_path))
    rows = {row.model: row for row in found.held_out if row.data == "hetrec"}
    assert rows["popularity"].users == 18
    assert rows["response"].skipped == bench.NO_PLAYS
    assert found.notes == ["ml-100k is left out: it is far away."]
    assert bench.NO_PLAYS in told(found)
    with pytest.raises(InvalidInputError, match=r"holds no hetrec-user-artists\.tsv"):
        score.score(settings, ask("dae", public=True, data=tmp_path / "nowhere"))


def test_a_track_twice_in_a_list_is_told(settings: Settings) -> None:
    with pytest.raises(InvalidInputError, match="best of model 'somebody:Twice' gives a track twice"):
        score.score(settings, ask("somebody:Twice"))


def test_the_command_prints_and_writes_the_page(found: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Asked] = []
    monkeypatch.setenv("RECSYS_VAR", str(tmp_path / "var"))
    monkeypatch.setattr(score, "score", lambda settings, wanted: asked.append(wanted) or found)
    out = CliRunner().invoke(app, ["score", "somebody:Counts", "--quick"], catch_exceptions=False).stdout
    assert out.startswith("Counts: sessions of ")
    assert out.splitlines()[-1] == str(tmp_path / "var" / "score" / "Counts" / "score.html")
    words = ["score", "somebody:Counts", "--json", "--offline", "--out", str(tmp_path / "out")]
    assert Score.parse(CliRunner().invoke(app, words, catch_exceptions=False).stdout, "output") == found
    assert json.loads((tmp_path / "out" / "score.json").read_text())["label"] == "Counts"
    assert asked == [
        Asked("somebody:Counts", worlds.QUICK, public=False),
        Asked("somebody:Counts", worlds.FULL, fetch=False),
    ]


def test_a_result_that_cannot_be_read_is_computed_again(tmp_path: Path) -> None:
    computed = []

    def compute() -> fit.Arrays:
        computed.append(1)
        return {"a": np.arange(3)}

    for rebuild in (False, False, True):
        results = Results(tmp_path, rebuild=rebuild)
        assert [results.of({"b": 1}, compute)["a"].tolist() for _ in range(2)] == [[0, 1, 2]] * 2
    assert len(computed) == 2
    (kept,) = tmp_path.glob("*.npz")
    kept.write_bytes(b"PK")
    assert Results(tmp_path).of({"b": 1}, compute)["a"].tolist() == [0, 1, 2]
    assert len(computed) == 3
    assert Results(tmp_path).of({"b": 2}, compute)["a"].tolist() == [0, 1, 2]
    assert len(computed) == 4
