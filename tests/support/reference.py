"""The listeners once more, one play at a time, in plain Python and as literally as the specification has them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp
from pathlib import Path

import numpy as np

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15
USER, INTEREST, FIRST_TRACK, BUDGET, SHARD, RECOMMENDATION = range(1, 7)

#: An event: message, user, track, hundredths, episode, step.
Event = tuple[str, int, int, int, int, int]
#: Answers (user, track, hundredths, episode, step) with a track.
Policy = Callable[[int, int, int, int, int], int]


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def absorb(state: int, part: int) -> int:
    return mix(((state ^ mix((part + GAMMA) & MASK)) + GAMMA) & MASK)


def word(seed: int, episode: int, step: int, purpose: int) -> int:
    return absorb(absorb(mix((seed + GAMMA) & MASK), episode), step * 16 + purpose)


def below(limit: int, seed: int, episode: int, step: int, purpose: int) -> int:
    return ((word(seed, episode, step, purpose) >> 32) * limit) >> 32


@dataclass
class World:
    artists: list[str]
    embeddings: list[list[float]]
    users: list[dict]

    @classmethod
    def read(cls, directory: Path) -> "World":
        tracks = [json.loads(line) for line in (directory / "tracks.json").read_text().splitlines()]
        artists = [row["artist"] for row in sorted(tracks, key=lambda row: row["track"])]
        users = [json.loads(line) for line in (directory / "users.json").read_text().splitlines()]
        return cls(artists, np.load(directory / "tracks.npy").astype(float).tolist(), users)

    def dot(self, a: int, b: int) -> float:
        return sum(x * y for x, y in zip(self.embeddings[a], self.embeddings[b], strict=True))


def episode_events(world: World, seed: int, episode: int, policy: Policy) -> Iterator[Event]:
    """The events of one episode, in order; the last one is ``last``."""
    listener = world.users[below(len(world.users), seed, episode, 0, USER)]
    user = listener["user"]
    interests = listener["interests"]
    interest = interests[below(len(interests), seed, episode, 0, INTEREST)]
    bias, sharpness = listener.get("consume_bias", 5.0), listener.get("consume_sharpness", 1.0)
    gamma = listener.get("artist_discount_gamma", 0.9)
    budget = listener.get("session_budget", 5)
    nearest = sorted(range(len(world.artists)), key=lambda track: (-world.dot(interest, track), track))
    neighbours = min(listener.get("interest_neighbours", 10), len(nearest))
    track, time, step = nearest[below(neighbours, seed, episode, 0, FIRST_TRACK)], 100, 0
    played, artists = [track], [world.artists[track]]
    while True:
        yield "next", user, track, time, episode, step
        track = policy(user, track, time, episode, step)
        step += 1
        taste = 1 / (1 + exp(-(world.dot(track, interest) - bias) * sharpness))
        time = round(100 * round(taste * gamma ** artists.count(world.artists[track]), 2))
        if track in played:
            time = 0
        played.append(track)
        artists.append(world.artists[track])
        if below(100, seed, episode, step, BUDGET) >= time:
            budget -= 1
        if budget == 0:
            yield "last", user, track, time, episode, step
            return


def all_events(world: World, seed: int, episodes: int, policy: Policy, first_episode: int = 0) -> list[Event]:
    """The events of all episodes, sorted by episode and step."""
    numbers = range(first_episode, first_episode + episodes)
    return [event for n in numbers for event in episode_events(world, seed, n, policy)]
