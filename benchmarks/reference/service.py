"""The original's service: Flask's own server, one Redis call after another, everything pickled.

In go the files of :mod:`benchmarks.content` and a Redis port; it serves ``GET /``, ``GET /track/<id>``, ``POST /next/<user>`` and
``POST /last/<user>`` until it is ended.
"""

import argparse
import json
import logging
import pickle
import random
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

import mmh3
import redis
from flask import Flask, abort, jsonify, request

EXPERIMENT = "DAE_VS_CONTEXTUAL"
TRACKS_DB, ARTISTS_DB, LISTS_DB, HISTORY_DB = 1, 2, 3, 4


@dataclass
class Track:
    """A track of the catalogue with its neighbours."""

    track: int
    artist: str
    title: str
    recommendations: list[int] = field(default_factory=list)


@dataclass
class Datum:
    """What one request leaves in the log."""

    timestamp: int
    user: int
    track: int
    time: float
    latency: float
    recommendation: int | None = None


class Catalog:
    """The catalogue, read from files and uploaded to Redis when the service starts."""

    def __init__(self, files: Path) -> None:
        self.tracks: list[Track] = []
        with (files / "tracks.json").open() as file:
            for line in file:
                row = json.loads(line)
                self.tracks.append(Track(row["track"], row["artist"], row["title"], row["recommendations"]))
        with (files / "top_tracks.json").open() as file:
            self.top_tracks: list[int] = json.load(file)[:100]
        self._files = files

    def upload_tracks(self, client: redis.Redis) -> None:
        for track in self.tracks:
            client.set(track.track, pickle.dumps(track))

    def upload_artists(self, client: redis.Redis) -> None:
        by_artist: dict[str, list[int]] = {}
        for track in self.tracks:
            by_artist.setdefault(track.artist, []).append(track.track)
        for artist, tracks in by_artist.items():
            client.set(artist, pickle.dumps(tracks))

    def upload_recommendations(self, client: redis.Redis) -> None:
        with (self._files / "recommendations.json").open() as file:
            for line in file:
                row = json.loads(line)
                client.set(row["user"], pickle.dumps(row["tracks"]))


class TopTracks:
    """The fallback: any of the most popular tracks that was not played."""

    def __init__(self, top_tracks: list[int]) -> None:
        self._top = top_tracks

    def recommend(self, _user: int, _track: int, played: set[int]) -> int:
        shuffled = list(self._top)
        random.shuffle(shuffled)
        return next((track for track in shuffled if track not in played), shuffled[0])


class Contextual:
    """A random neighbour of the track just played."""

    def __init__(self, tracks: redis.Redis, fallback: TopTracks) -> None:
        self._tracks, self._fallback = tracks, fallback

    def recommend(self, user: int, track: int, played: set[int]) -> int:
        found = self._tracks.get(track)
        if found is not None:
            neighbours = list(pickle.loads(found).recommendations)
            random.shuffle(neighbours)
            for neighbour in neighbours:
                if neighbour not in played:
                    return neighbour
        return self._fallback.recommend(user, track, played)


class Listed:
    """The first track of the user's list that was not played."""

    def __init__(self, lists: redis.Redis, fallback: TopTracks) -> None:
        self._lists, self._fallback = lists, fallback

    def recommend(self, user: int, track: int, played: set[int]) -> int:
        found = self._lists.get(user)
        if found is not None:
            for listed in pickle.loads(found):
                if listed not in played:
                    return listed
        return self._fallback.recommend(user, track, played)


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"message": record.getMessage(), **record.datum, "experiments": record.experiments})


def request_logger(path: Path) -> logging.Logger:
    """A logger whose records become lines of a file."""
    handler = RotatingFileHandler(path, maxBytes=500 * 2**20, backupCount=10)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("requests")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    return logger


def create_app(files: Path, redis_port: int, log: Path) -> Flask:
    """Upload the catalogue and the lists, and build the application."""
    app = Flask(__name__)
    tracks, artists, lists, history = (
        redis.Redis("127.0.0.1", redis_port, db) for db in (TRACKS_DB, ARTISTS_DB, LISTS_DB, HISTORY_DB)
    )
    catalog = Catalog(files)
    catalog.upload_tracks(tracks)
    catalog.upload_artists(artists)
    catalog.upload_recommendations(lists)
    top = TopTracks(catalog.top_tracks)
    arms = {"C": Contextual(tracks, top), "T1": Listed(lists, top)}
    logger = request_logger(log)

    def assign(user: int) -> str:
        return list(arms)[mmh3.hash(str(user), seed=mmh3.hash(EXPERIMENT, signed=False), signed=False) % len(arms)]

    def record(message: str, datum: Datum, arm: str) -> None:
        logger.info(message, extra={"datum": asdict(datum), "experiments": {EXPERIMENT: arm}})

    @app.get("/")
    def hello():
        return jsonify({"status": "alive", "message": "welcome to the reference service"})

    @app.get("/track/<int:track>")
    def get_track(track: int):
        found = tracks.get(track)
        if found is None:
            abort(404)
        return jsonify(asdict(pickle.loads(found)))

    @app.post("/next/<int:user>")
    def next_track(user: int):
        start = time.time()
        body = request.get_json()
        track, played_time = int(body["track"]), float(body["time"])
        history.lpush(user, json.dumps([track, played_time]))
        played = {json.loads(entry)[0] for entry in history.lrange(user, 0, -1)}
        arm = assign(user)
        recommendation = arms[arm].recommend(user, track, played)
        now = int(datetime.now().timestamp() * 1000)
        record("next", Datum(now, user, track, played_time, time.time() - start, recommendation), arm)
        return jsonify({"user": user, "track": recommendation})

    @app.post("/last/<int:user>")
    def last_track(user: int):
        start = time.time()
        body = request.get_json()
        history.delete(user)
        now = int(datetime.now().timestamp() * 1000)
        record("last", Datum(now, user, int(body["track"]), float(body["time"]), time.time() - start), assign(user))
        return jsonify({"user": user})

    return app


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser("python -m benchmarks.reference.service")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis-port", type=int, required=True)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    app = create_app(arguments.files, arguments.redis_port, arguments.log)
    app.run("127.0.0.1", arguments.port, threaded=True)


if __name__ == "__main__":
    main()
