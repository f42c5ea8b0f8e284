"""Two nights compared."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from recsys.exceptions import MissingDataError
from recsys.inspection.diff import Row, compare
from recsys.schemas import Learning
from recsys.storage.store import Storage
from tests.support.documents import card, inputs, publish

DAYS = (date(2026, 1, 2), date(2026, 1, 3))


def night(store: Storage, day: date, seed: int, shift: int) -> None:
    with store.stage(f"interactions/date={day}") as staging:
        inputs(day, seed=seed, settings=Learning(window=7, positive_time=0.8)).write(staging)
    with store.stage(f"recommendations/date={day}") as staging:
        lines = (json.dumps({"user": u, "tracks": [(u * shift + k) % 90 for k in range(50)]}) for u in range(20))
        (staging / "recommendations.json").write_text("\n".join(lines) + "\n")
        (staging / "top_tracks.json").write_text(json.dumps(list(range(shift, shift + 100))))
        np.save(staging / "neighbours.npy", np.zeros((10, 20), dtype=np.uint32))


def test_what_differs_and_what_is_shared(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    night(store, DAYS[0], 1, 1)
    night(store, DAYS[1], 2, 2)
    rows = {row.name: row for row in compare(store, *DAYS)}
    assert (rows["seed"].first, rows["seed"].second, rows["seed"].same) == (1, 2, False)
    assert rows["settings.window"].same
    assert "log_date" not in rows
    assert rows["users with an equal list"].second == 1
    assert 0 < rows["shared of the first 10, mean"].second < 1
    assert rows["shared of the TOP 100"].second == 99
    assert all(row.same for row in compare(store, DAYS[0], DAYS[0]))


def test_a_night_that_stopped_early_has_gaps(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    night(store, DAYS[0], 1, 1)
    with store.stage(f"interactions/date={DAYS[1]}") as staging:
        inputs(DAYS[1], seed=1).write(staging)
    rows = compare(store, *DAYS)
    assert Row("lists", "published", True, False) in rows
    assert Row("data and settings", "settings.window", 7, None) in rows
    assert next(row.text() for row in rows if row.name == "settings.window") == "7  ->  -"
    with pytest.raises(MissingDataError, match="2026-01-09 has no night"):
        compare(store, DAYS[0], date(2026, 1, 9))


def test_the_code_of_models_is_shown_shortened(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    for day, code in zip(DAYS, ("0a" * 32, "1b" * 32), strict=True):
        night(store, day, 1, 1)
        publish(store, day, card(day).model_copy(update={"code": code}))
    rows = {row.name: row.text() for row in compare(store, *DAYS)}
    assert rows["code"] == "0a0a0a0a0a0a  ->  1b1b1b1b1b1b"
