"""The operator of a shard in a container, which finds the container of an earlier try again.

A container's name says which shard of which run it plays, so that no second one can play it at the same time.
"""

from typing import TYPE_CHECKING

from airflow.providers.docker.exceptions import DockerContainerFailedException
from airflow.providers.docker.operators.docker import DockerOperator, fetch_logs
from airflow.sdk.exceptions import AirflowException
from docker.errors import NotFound

if TYPE_CHECKING:
    from airflow.sdk import Context

#: States of a task that somebody has ended; in others it goes on, or begins anew, and its container is of use.
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed", "restarting")


class ShardContainer(DockerOperator):
    """Runs a container; a retry goes on with one of its name that still runs, or has ended well, and never with another."""

    def execute(self, context: "Context") -> list[str] | str | None:
        """Play the shard, or go on with its container; gives the lines that it wrote."""
        self._context = context
        left = self._left()
        if left is None:
            return super().execute(context)
        self.log.info("going on with the container %s of an earlier try", self.container_name)
        self.container = {"Id": left}
        try:
            lines = fetch_logs(self.cli.logs(left, stdout=True, stderr=True, stream=True, follow=True), self.log)
            ended = self.cli.wait(left)
            if ended["StatusCode"]:
                raise DockerContainerFailedException(f"Docker container failed: {ended!r}", logs=lines)
        finally:
            if self.auto_remove == "force":
                self.cli.remove_container(left, force=True)
        return list(lines)

    def _left(self) -> str | None:
        """Identifier of the container that an earlier try has left; one that is of no use is removed."""
        try:
            found = self.cli.inspect_container(self.container_name)
        except NotFound:
            return None
        state = found["State"]
        if state["Running"] or (state["Status"] == "exited" and state["ExitCode"] == 0):
            return str(found["Id"])
        self.log.info("removing the container %s of an earlier try, which is %s", self.container_name, state["Status"])
        self.cli.remove_container(found["Id"], force=True)
        return None

    def on_kill(self) -> None:
        """End the container, unless the task was taken from this process only: its next try goes on with it."""
        if self._is_ended():
            super().on_kill()
        else:
            self.log.info("leaving the container %s to the next try", self.container_name)
            self.auto_remove = "never"

    def _is_ended(self) -> bool:
        ti = self._context["ti"]
        try:
            states = ti.get_task_states(ti.dag_id, map_index=ti.map_index, task_ids=[ti.task_id], run_ids=[ti.run_id])
        except (AirflowException, OSError) as error:
            self.log.warning("Airflow does not say what has become of the task: %s", error)
            return True
        return all(state in ENDED for state in states.get(ti.run_id, {}).values())
