"""A run's log dates are free as soon as it has ended, however it ended: by itself, out of time, marked by hand.

Airflow calls :class:`Leases` where a run's state changes, in the scheduler or the api-server. A run that is deleted has ended
before, and the runs of a scheduler that was killed are ended by the next one. Should Redis be away just then, the lease ends by
itself after a while.
"""

import logging
from typing import TYPE_CHECKING

import redis
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.exceptions import AirflowNotFoundException
from night_connections import redis_url, without_the_session_of_others

from recsys.exceptions import RecsysError
from recsys.settings import load_settings
from recsys.versions import keyspace, lease

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)

#: The DAGs whose runs hold log dates.
HOLDERS = ("nightly_recommender", "collect_traffic")


def holder(dag: str, run: str) -> str:
    """The name under which a run holds log dates; runs of two DAGs may have the same id."""
    return f"{dag} {run}"


class Leases:
    """Listens to the ends of runs."""

    @hookimpl
    def on_dag_run_success(self, dag_run: "DagRun") -> None:
        """Free the log dates of a run that ended well."""
        _free(dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: "DagRun") -> None:
        """Free the log dates of a run that failed."""
        _free(dag_run)


def _free(run: "DagRun") -> None:
    """A lease that cannot be dropped never disturbs the scheduler."""
    if run.dag_id not in HOLDERS:
        return
    name = holder(run.dag_id, run.run_id)
    try:
        lease.drop_all(keyspace.connect(load_settings(redis_url=redis_url(without_the_session_of_others))), name)
    except (RecsysError, redis.RedisError, AirflowNotFoundException) as error:
        log.warning("the log dates of run %s stay held for a while: %s", name, error)


class NightLeases(AirflowPlugin):
    """Registers the listener."""

    name = "night_leases"
    listeners: list[object] = [Leases()]  # noqa: RUF012
