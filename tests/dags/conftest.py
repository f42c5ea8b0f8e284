"""The DAG files, parsed once by Airflow itself with a home of its own."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"

# Airflow reads these when it is imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="recsys-airflow-")
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(ROOT / "plugins")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] = "False"


@pytest.fixture(scope="session")
def dag_bag() -> Any:
    """All DAGs."""
    from airflow.dag_processing.dagbag import DagBag

    sys.path[:0] = [str(DAGS), str(ROOT / "plugins")]
    return DagBag(str(DAGS))
