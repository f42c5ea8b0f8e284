"""A night's heavy steps in a few lines: dense scores and ``torch.topk`` for all lists, plain SQL on DuckDB for collection."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

COLUMNS = {
    "message": "VARCHAR",
    "timestamp": "BIGINT",
    "user": "INTEGER",
    "track": "INTEGER",
    "time": "DOUBLE",
    "run": "VARCHAR",
    "session": "BIGINT",
    "step": "INTEGER",
    "recommendation": "INTEGER",
    "propensity": "DOUBLE",
}
#: An event counts once, whichever shard or try logged it.
PLAYS = """
    CREATE TABLE plays AS
    SELECT DISTINCT ON ("user", run, session, step) * REPLACE (regexp_replace(run, '\\.[0-9]+\\.[^.]*$', '') AS run)
    FROM read_json(?, format = 'newline_delimited', columns = {columns}, ignore_errors = true)
    WHERE message IN ('next', 'last') AND time BETWEEN 0 AND 1
"""
TABLES = {
    "interactions": 'SELECT DISTINCT "user", track FROM plays WHERE time > 0.8 ORDER BY ALL',
    "sessions": """
        SELECT "user", run, session, count(*) AS steps, sum(round(time * 100)) / 100 AS time, arg_min(track, step) AS first_track
        FROM plays GROUP BY ALL ORDER BY ALL
    """,
    "plays": 'SELECT * EXCLUDE (message, timestamp) FROM plays ORDER BY "user", run, session, step',
}


def collect(logs: Path, out: Path) -> None:
    """Write interactions, sessions and plays of a directory of logs as Parquet."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(PLAYS.format(columns=COLUMNS), [f"{logs}/*.jsonl"])
        for name, query in TABLES.items():
            connection.execute(f"COPY ({query}) TO '{out / name}.parquet' (COMPRESSION zstd)")


def dense_lists(weights: Path, history: "csr_matrix", users: np.ndarray, path: Path, length: int = 50) -> np.ndarray:
    """Write each user's best tracks by a saved autoencoder's weights, a line a user; returns them, int64 [users, length]."""
    import torch
    from safetensors.torch import load_file

    saved = load_file(weights)
    items = saved["items"].numpy()
    rows = history[:, items].tocsr()
    lists = []
    with torch.inference_mode():
        for start in range(0, rows.shape[0], 512):
            batch = torch.nn.functional.normalize(torch.from_numpy(rows[start : start + 512].toarray()))
            code = torch.tanh(torch.addmm(saved["bias"], batch, saved["embedding.weight"]))
            scores = torch.addmm(saved["out.bias"], code, saved["out.weight"].T)
            lists.append(items[torch.topk(scores, length).indices.numpy()])
    found = np.concatenate(lists)
    with path.open("wb") as file:
        for user, tracks in zip(users.tolist(), found.tolist(), strict=True):
            file.write(orjson.dumps({"user": user, "tracks": tracks}, option=orjson.OPT_APPEND_NEWLINE))
    return found
