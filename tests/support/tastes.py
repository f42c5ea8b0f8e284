"""A small made-up taste: users of a group like the tracks of that group."""

import numpy as np
from scipy.sparse import csr_matrix

GROUPS = 6


def taste_matrix(users: int = 240, tracks: int = 120, liked: int = 8, seed: int = 0) -> csr_matrix:
    """Binary users x tracks; user u likes tracks t with t % GROUPS == u % GROUPS; the last ten tracks are never liked."""
    rng = np.random.default_rng(seed)
    rows, columns = [], []
    for user in range(users):
        own = np.arange(user % GROUPS, tracks - 10, GROUPS)
        chosen = rng.choice(own, liked, replace=False)
        rows += [user] * liked
        columns += chosen.tolist()
    matrix = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(users, tracks))
    matrix.sort_indices()
    return matrix
