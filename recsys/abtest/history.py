"""Every night so far: a storage in, a row a night out, for lists, pages and the report's picture of earlier nights."""

from typing import Any

from recsys.settings import Settings
from recsys.storage.store import Storage


def nights(settings: Settings) -> list[dict[str, Any]]:
    """Every night so far, ascending: date, verdict, sessions, effect with its interval, the version live afterwards, report."""
    store = Storage(settings.storage_url)
    rows = []
    for log_date in store.dates("interactions"):
        row: dict[str, Any] = {
            "log_date": str(log_date), "verdict": "failed", "sessions": None, "effect_percent": None,
            "ci_low_percent": None, "ci_high_percent": None, "live": None, "report": None,
        }  # fmt: skip
        if store.is_complete(f"promotions/date={log_date}"):
            verdict = store.read_json(f"promotions/date={log_date}", "promotion.json")
            row |= {"verdict": verdict["verdict"], "live": verdict["live"] or None}
        if store.is_complete(f"reports/date={log_date}"):
            document = store.read_json(f"reports/date={log_date}", "report.json")
            row |= {"sessions": document["sessions"], "report": f"{store.path(f'reports/date={log_date}')}/report.html"}
            primary = [m for m in document["metrics"] if m["role"] == "primary" and m["arm"] == "T1"]
            if primary:
                row |= {key: primary[0][key] for key in ("effect_percent", "ci_low_percent", "ci_high_percent")}
        rows.append(row)
    return rows
