"""StickyArtist's table: other tracks of the artist, a sample of them where there are many."""

import numpy as np

from recsys.models.same_artist import table


def test_rows_hold_the_others_of_the_artist_and_end_with_the_track_itself() -> None:
    artist_of = np.array([0, 1, 0, 0, 2, 1], np.int32)
    available = np.array([True, True, True, False, True, True])
    rows = table(artist_of, available, seed=1)
    assert (rows.dtype, rows.shape) == (np.uint32, (6, 20))
    assert [set(row.tolist()) for row in rows] == [{0, 2}, {1, 5}, {0, 2}, {0, 2, 3}, {4}, {1, 5}]
    assert rows[3].tolist()[2:] == [3] * 18, "a retired track has others, and is nobody's"


def test_of_an_artist_with_many_tracks_every_one_follows_some_other() -> None:
    rows = table(np.zeros(300, np.int32), np.ones(300, bool), seed=1)
    for track, row in enumerate(rows.tolist()):
        assert len(set(row) - {track}) == 20
    assert np.bincount(rows.ravel(), minlength=300).min() > 0
    np.testing.assert_array_equal(rows, table(np.zeros(300, np.int32), np.ones(300, bool), seed=1))
    assert (rows != table(np.zeros(300, np.int32), np.ones(300, bool), seed=2)).any()


def test_of_no_tracks_there_is_no_row() -> None:
    assert table(np.zeros(0, np.int32), np.zeros(0, bool), seed=1).shape == (0, 20)
