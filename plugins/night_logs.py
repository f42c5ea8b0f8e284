"""Logs of tasks where everything runs on one machine: they are read from their files, and nothing serves them over a network.

The embedded platform names :data:`LOGGING_CONFIG` as Airflow's ``logging_config_class``; its scheduler and triggerer run with
``--skip-serve-logs``.
"""

import copy
from collections.abc import Generator

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG
from airflow.utils.log.file_task_handler import FileTaskHandler


class LocalTaskHandler(FileTaskHandler):
    """Airflow's own, which would ask the log servers for a running task's lines too, and tell of each that does not answer."""

    def _read_from_logs_server(
        self,
        ti: object,  # noqa: ARG002
        worker_log_rel_path: str,  # noqa: ARG002
    ) -> tuple[list[str], list[Generator[str, None, None]]]:
        return [], []


LOGGING_CONFIG = copy.deepcopy(DEFAULT_LOGGING_CONFIG)
LOGGING_CONFIG["handlers"]["task"]["class"] = f"{__name__}.{LocalTaskHandler.__name__}"
