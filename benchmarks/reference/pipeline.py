"""The original's pipeline over raw log rows in pandas: implicit feedback and sessions, and the analysis of an A/B test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

METRICS = ("time", "tracks", "latency", "sessions")


def read_rows(path: Path) -> pd.DataFrame:
    """The log's rows, one a line."""
    with path.open() as file:
        return pd.DataFrame([json.loads(line) for line in file])


def collect(path: Path, out: Path) -> None:
    """Write positives (user, track), each once, and sessions."""
    rows = read_rows(path)
    positives = rows[rows["time"] > 0.8][["user", "track"]].drop_duplicates().sort_values(["user", "track"])
    positives.to_csv(out / "interactions.csv", index=False)
    sessions_of(rows).to_csv(out / "sessions.csv", index=False)


def analyse(path: Path, experiment: str, control: str, out: Path) -> pd.DataFrame:
    """Compare every arm with the control by Welch's test on users' means; writes and returns a row an arm and metric."""
    rows = read_rows(path)
    rows["arm"] = rows["experiments"].map(lambda experiments: experiments[experiment])
    sessions = sessions_of(rows)
    arm_of = rows.groupby("user")["arm"].first()
    users = sessions.groupby("user").agg(
        time=("time", "mean"), tracks=("tracks", "mean"), latency=("latency", "mean"), sessions=("timestamp", "count")
    )
    users["arm"] = arm_of
    effects = []
    for arm in sorted(set(users["arm"]) - {control}):
        for metric in METRICS:
            a, b = users[users["arm"] == control][metric], users[users["arm"] == arm][metric]
            effects.append({"arm": arm, "metric": metric, **_effect(a, b)})
    table = pd.DataFrame(effects)
    table.to_json(out / "effects.json", orient="records", lines=True)
    return table


def sessions_of(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a session: its user, first timestamp, number of tracks, time and mean latency."""
    found = rows.groupby("user").apply(_sessions_of_user)
    sessions = pd.DataFrame([session for sessions in found for session in sessions])
    return sessions.sort_values(["user", "timestamp"])


def _sessions_of_user(rows: pd.DataFrame) -> list[dict[str, Any]]:
    sessions, session = [], None
    user = rows.name
    for _, row in rows.sort_values("timestamp").iterrows():
        if session is None:
            session = {"user": user, "timestamp": row["timestamp"], "tracks": 0, "time": 0.0, "latency": 0.0}
        session["tracks"] += 1
        session["time"] += row["time"]
        session["latency"] += row["latency"]
        if row["message"] == "last":
            session["latency"] /= session["tracks"]
            sessions.append(session)
            session = None
    return sessions


def _effect(control: pd.Series, treatment: pd.Series) -> dict[str, float]:
    """Relative effect in percent with its interval, and the p-value."""
    mean = control.mean()
    difference = treatment.mean() - mean
    error = np.sqrt(control.var() / len(control) + treatment.var() / len(treatment))
    half = stats.norm.ppf(0.975) * error
    p = stats.ttest_ind(treatment, control, equal_var=False).pvalue
    return {
        "effect": 100 * difference / mean,
        "low": 100 * (difference - half) / mean,
        "high": 100 * (difference + half) / mean,
        "p_value": float(p),
    }
