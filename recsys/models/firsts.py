"""Which first tracks of a user's sessions belong to the same taste.

In go the sessions' first tracks; out come, for given track vectors, soft groups: for each first track of a user, how likely each
other first track of that user comes from the same taste. Nothing is assumed about how many tastes a user has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.learn.plays import Plays

if TYPE_CHECKING:
    import torch

Ints = npt.NDArray[np.int64]

#: First tracks of a user that take part: the most frequent ones.
MOST = 64
#: Users whose tracks are compared together.
CHUNK = 1000
#: What scores are divided by before they become shares of a group, in standard deviations of the scores among a user's tracks:
#: scores grow with training, and groups must not depend on how far it came. Where scores say nothing yet, the least one holds.
TEMPERATURE, LEAST_TEMPERATURE = 0.8, 0.5
#: Two first tracks are of one group if their shares overlap by this much; groups a user, the largest ones.
SAME, GROUPS = 0.5, 6


class FirstTracks:
    """Distinct first tracks of every user, padded.

    Attributes:
        tracks: int64 [users, most], most frequent first. counts: float32 [users, most], sessions; 0 where there is no track.
        row, place: int64 [sessions], the user of each session and the place of its first track, by ascending user.
    """

    def __init__(self, plays: Plays) -> None:
        begins = plays.step == 0
        tracks = len(plays.artist_of)
        keys, session, counts = np.unique(
            plays.row[begins] * tracks + plays.track[begins], return_inverse=True, return_counts=True
        )
        row, track = np.divmod(keys, max(tracks, 1))
        order = np.lexsort((track, -counts, row))
        place = np.empty(len(keys), np.int64)
        place[order] = np.arange(len(keys)) - np.searchsorted(row, row)
        kept = place < MOST
        width = int(place[kept].max()) + 1 if kept.any() else 1
        self.tracks = np.zeros((plays.users, width), np.int64)
        self.counts = np.zeros((plays.users, width), np.float32)
        self.tracks[row[kept], place[kept]], self.counts[row[kept], place[kept]] = track[kept], counts[kept]
        taking_part = np.sort(session[kept[session]])
        self.row, self.place = row[taking_part], place[taking_part]

    def groups(self, vectors: "torch.Tensor", firsts: "torch.Tensor", *, itself: bool) -> "Iterator[tuple[int, torch.Tensor]]":
        """Chunks of users: the first row, and float32 [rows, most, most], P(column | row): the share of each group.

        The share of g given f is proportional to sessions(g) * exp(firsts[f] . vectors[g] / temperature).

        Args:
            vectors, firsts: float32 [tracks, dims], of tracks as answers and as first tracks.
            itself: whether a track may be of its own group.
        """
        import torch

        tracks, counts = torch.from_numpy(self.tracks), torch.from_numpy(self.counts)
        temperature = self._temperature(vectors, firsts)
        for start in range(0, len(tracks), CHUNK):
            ids, weight = tracks[start : start + CHUNK], counts[start : start + CHUNK]
            scores = torch.bmm(firsts[ids], vectors[ids].transpose(1, 2)) / temperature
            scores += torch.where(weight > 0, weight.clamp_min(1e-9).log(), torch.tensor(-1e9))[:, None, :]
            if not itself:
                scores.diagonal(dim1=1, dim2=2).fill_(-1e9)
            yield start, torch.softmax(scores, 2)

    def _temperature(self, vectors: "torch.Tensor", firsts: "torch.Tensor") -> float:
        """By the scores of a chunk of users who began with several tracks."""
        import torch

        several = np.flatnonzero((self.counts > 0).sum(axis=1) > 1)[:CHUNK]
        ids, real = torch.from_numpy(self.tracks[several]), torch.from_numpy(self.counts[several] > 0)
        pairs = real[:, :, None] & real[:, None, :] & ~torch.eye(ids.shape[1], dtype=torch.bool)
        scores = torch.bmm(firsts[ids], vectors[ids].transpose(1, 2))[pairs]
        return max(LEAST_TEMPERATURE, TEMPERATURE * float(scores.double().std())) if len(scores) > 1 else LEAST_TEMPERATURE

    def pairs(self, vectors: "torch.Tensor", firsts: "torch.Tensor", rng: np.random.Generator) -> tuple[Ints, Ints]:
        """For each session of a user with other first tracks: its first track, and another one drawn from its group."""
        import torch

        found: list[tuple[Ints, Ints]] = []
        several = (self.counts > 0).sum(axis=1) > 1
        for start, shares in self.groups(vectors, firsts, itself=False):
            low, high = np.searchsorted(self.row, (start, start + len(shares)))
            row, place = self.row[low:high], self.place[low:high]
            chosen = several[row]
            row, place = row[chosen], place[chosen]
            cumulated = shares.cumsum(2)[torch.from_numpy(row - start), torch.from_numpy(place)].numpy()
            draw = rng.random(len(row), dtype=np.float32) * cumulated[:, -1] * np.float32(1 - 1e-6)
            other = (cumulated <= draw[:, None]).sum(axis=1)
            found.append((self.tracks[row, place], self.tracks[row, other]))
        return np.concatenate([f for f, _ in found]), np.concatenate([g for _, g in found])

    def tastes(self, vectors: "torch.Tensor", firsts: "torch.Tensor") -> "Tastes":
        """Each user's groups of first tracks, and what sessions that begin with a track are about."""
        import torch

        total = np.zeros(tuple(firsts.shape), np.float64)
        sessions = np.zeros(len(firsts), np.float64)
        rows: list[Ints] = []
        sizes: list[npt.NDArray[np.float32]] = []
        means: list[npt.NDArray[np.float32]] = []
        for start, shares in self.groups(vectors, firsts, itself=True):
            ids, weight = self.tracks[start : start + CHUNK], self.counts[start : start + CHUNK]
            about = torch.bmm(shares, firsts[torch.from_numpy(ids)]).numpy()
            real = weight > 0
            np.add.at(total, ids[real], about[real] * weight[real][:, None])
            np.add.at(sessions, ids[real], weight[real])
            for taken, size, mean in _leaders(shares.numpy(), weight, about):
                rows.append(start + taken)
                sizes.append(size)
                means.append(mean)
        about = firsts.numpy().copy()
        began = sessions > 0
        about[began] = (total[began] / sessions[began][:, None]).astype(np.float32)
        mean = np.concatenate(means)
        return Tastes(about, sessions, np.concatenate(rows), np.concatenate(sizes), mean, mean)


@dataclass(frozen=True)
class Tastes:
    """What sessions are about.

    Attributes:
        about: float32 [tracks, dims], of sessions that begin with a track; tracks that begin none keep their own vector.
        sessions: float64 [tracks], how many sessions began with each.
        row, size, mean: a line for each group of a user: int64 row of the user, sessions in it, float32 [groups, dims].
        aim: float32 [groups, dims], what the user wants to hear in such sessions, as far as the user's answers tell.
    """

    about: npt.NDArray[np.float32]
    sessions: npt.NDArray[np.float64]
    row: Ints
    size: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]
    aim: npt.NDArray[np.float32]

    def of(self, row: Ints, first: Ints) -> Ints:
        """The user's group that is nearest to what a session with this first track is about; of users who have groups."""
        order = np.argsort(self.row, kind="stable")
        low, high = (np.searchsorted(self.row[order], row, side=side) for side in ("left", "right"))
        nearest, found = np.full(len(row), np.inf, np.float32), np.zeros(len(row), np.int64)
        for number in range(int((high - low).max(initial=0))):
            has = np.flatnonzero(low + number < high)
            group = order[low[has] + number]
            distance = ((self.about[first[has]] - self.mean[group]) ** 2).sum(axis=1)
            closer = distance < nearest[has]
            nearest[has[closer]], found[has[closer]] = distance[closer], group[closer]
        return found


def _leaders(
    shares: npt.NDArray[np.float32], weight: npt.NDArray[np.float32], about: npt.NDArray[np.float32]
) -> Iterator[tuple[Ints, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Groups of a chunk of users, a round at a time: the most frequent first track left leads those that share its group."""
    left = weight.copy()
    user = np.arange(len(weight))
    for _ in range(GROUPS):
        leader = left.argmax(axis=1)
        overlap = np.minimum(shares, shares[user, leader][:, None, :]).sum(axis=2)
        inside = np.where(overlap > SAME, left, 0)
        inside[user, leader] = left[user, leader]
        size = inside.sum(axis=1)
        taken = np.flatnonzero(size)
        if not len(taken):
            return
        mean = np.einsum("um,umd->ud", inside[taken], about[taken]) / size[taken][:, None]
        yield taken, size[taken], mean.astype(np.float32)
        left[inside > 0] = 0
