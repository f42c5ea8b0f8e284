"""Health check without starting Airflow's command line, which costs seconds of CPU: `probe.py URL [PART…]`.

Exit status 0 if the URL answers 200 and, in a health document of the api-server, every named part is healthy.
"""

import json
import sys
import urllib.request


def main(url: str, *parts: str) -> None:
    """Ask once."""
    with urllib.request.urlopen(url, timeout=8) as answer:  # noqa: S310 -- a fixed http address
        health = json.load(answer) if parts else {}
    for part in parts:
        if health.get(part, {}).get("status") != "healthy":
            sys.exit(f"{part}: {health.get(part)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
