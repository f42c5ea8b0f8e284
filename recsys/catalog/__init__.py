"""Who listens to what: in go a world's files, out come the tracks and the users' ids that everybody else works with."""

from recsys.catalog.lines import json_lines
from recsys.catalog.tracks import MAX_ID_BYTES, TOP_TRACKS, TRACKS, Catalogue, load_top_tracks, load_tracks, read_tracks
from recsys.catalog.users import MAX_USER, MAX_USER_BYTES, USERS, load_users, number_of, user_id

__all__ = [
    "MAX_ID_BYTES",
    "MAX_USER",
    "MAX_USER_BYTES",
    "TOP_TRACKS",
    "TRACKS",
    "USERS",
    "Catalogue",
    "json_lines",
    "load_top_tracks",
    "load_tracks",
    "load_users",
    "number_of",
    "read_tracks",
    "user_id",
]
