"""Which first tracks of a user's sessions belong to the same taste.

In go the sessions' first tracks; out come, for given track vectors, soft groups: for each first track of a user, how likely each
other first track of that user comes from the same taste. Nothing is assumed about how many tastes a user has.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.plays import Plays

if TYPE_CHECKING:
    import torch

Ints = npt.NDArray[np.int64]

#: First tracks of a user that take part: the most frequent ones.
MOST = 64
#: Users whose tracks are compared together.
CHUNK = 1000


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

        The share of g given f is proportional to sessions(g) * exp(firsts[f] . vectors[g]).

        Args:
            vectors, firsts: float32 [tracks, dims], of tracks as answers and as first tracks.
            itself: whether a track may be of its own group.
        """
        import torch

        tracks, counts = torch.from_numpy(self.tracks), torch.from_numpy(self.counts)
        for start in range(0, len(tracks), CHUNK):
            ids, weight = tracks[start : start + CHUNK], counts[start : start + CHUNK]
            scores = torch.bmm(firsts[ids], vectors[ids].transpose(1, 2))
            scores += torch.where(weight > 0, weight.clamp_min(1e-9).log(), torch.tensor(-1e9))[:, None, :]
            if not itself:
                scores.diagonal(dim1=1, dim2=2).fill_(-1e9)
            yield start, torch.softmax(scores, 2)

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

    def smoothed(
        self, vectors: "torch.Tensor", firsts: "torch.Tensor"
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """What a session that begins with a track is about: the mean of its groups over sessions.

        Returns:
            float32 [tracks, dims] and the number of sessions, float64 [tracks]; tracks that begin no session keep ``firsts``.
        """
        import torch

        total = np.zeros(tuple(firsts.shape), np.float64)
        sessions = np.zeros(len(firsts), np.float64)
        for start, shares in self.groups(vectors, firsts, itself=True):
            ids, weight = self.tracks[start : start + CHUNK], self.counts[start : start + CHUNK]
            means = torch.bmm(shares, firsts[torch.from_numpy(ids)]).numpy()
            real = weight > 0
            np.add.at(total, ids[real], means[real] * weight[real][:, None])
            np.add.at(sessions, ids[real], weight[real])
        began = sessions > 0
        result = firsts.numpy().copy()
        result[began] = (total[began] / sessions[began][:, None]).astype(np.float32)
        return result, sessions
