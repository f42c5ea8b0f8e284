"""Health check of a Celery worker: it answers a ping through the broker. Without Airflow, whose imports cost seconds of CPU."""

import socket
import sys
from pathlib import Path

from celery import Celery

if __name__ == "__main__":
    name = f"celery@{socket.gethostname()}"
    app = Celery(broker=Path("/run/secrets/airflow_broker_url").read_text().strip())
    if not app.control.ping(destination=[name], timeout=10):
        sys.exit(f"{name} does not answer")
