"""The night without Airflow: one thin function a task, and :func:`run` which calls them in order.

Every function takes the :class:`~recsys.night.night.Night`, reads and writes its directories, and returns what is small and
JSON-ready, so that an Airflow task is one call. Whoever calls them holds the log date (:func:`recsys.versions.lease.held`).
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recsys.abtest.reference import last_shown_better
from recsys.abtest.schema import Report
from recsys.logs.upload import upload_shards
from recsys.night import candidate, collect, lineage, promote, report
from recsys.night.night import WRITTEN, Night
from recsys.schemas import Figures, Gate, Inputs, ShardResult, Verdict
from recsys.simulate.shards import shards_of, simulate_all
from recsys.storage.layout import Dated
from recsys.versions import keyspace, lease, pointer, publish
from recsys.versions.content import LISTS, directory_of, lists_in
from recsys.versions.lease import Lease
from recsys.versions.runs import registered

if TYPE_CHECKING:
    from recsys.night.forecast import ListsOf

log = logging.getLogger(__name__)


def collect_interactions(night: Night, *, backfill: bool = False, rebuild: bool = False) -> dict[str, int]:
    """Turn the window of logs into interactions.

    The version that is live at the first attempt is the night's baseline; a rerun of the same kind keeps it, and the reference.

    Args:
        rebuild: what is damaged of the night counts as not there; the step that writes it reads none of it.
    """
    if rebuild:
        _drop_damaged(night)
    client = keyspace.connect(night.settings)
    earlier = Inputs.find(night.store, night.log_date)
    if earlier is not None and earlier.backfill == backfill:
        baseline, reference = earlier.live, earlier.reference
    else:
        baseline = "" if backfill else pointer.read(client).version
        reference = str(last_shown_better(night.store, night.log_date, baseline) or "")
    return collect.collect(night, live=baseline, reference=reference, backfill=backfill)


def train(night: Night, *, rebuild: bool = False) -> Figures:
    """Train the night's models; in a ``rebuild`` those of an earlier attempt are not used."""
    from recsys.night.train import train as train_models

    return train_models(night, rebuild=rebuild)


def evaluate_gate(night: Night) -> Gate:
    """Decide whether the candidate is worth publishing."""
    from recsys.night.gate import decide

    return decide(night, _live_lists(night))


def recommend(night: Night) -> dict[str, int]:
    """Write every user's list."""
    from recsys.night.recommend import recommend as write_lists

    return write_lists(night)


def publish_candidate(night: Night, held: Lease) -> candidate.Candidate:
    """Publish the lists as a version and register the night's run."""
    return candidate.publish_candidate(night, keyspace.connect(night.settings), held)


def upload_logs(night: Night, base: str, results: Sequence[ShardResult], *, cleanup: bool = True) -> dict[str, int]:
    """Move the night's logs into the storage."""
    spec = registered(keyspace.connect(night.settings), base)
    return upload_shards(night.store, night.settings.log_dir, results, night.experiment, spec, cleanup=cleanup)


def build_report(night: Night) -> Report:
    """Analyse the night's experiment and write the report."""
    return report.build_report(night)


def refuse(night: Night, held: Lease) -> Verdict:
    """Write the report and the verdict of a night that the gate refused."""
    report.build_refused_report(night)
    verdict = promote.refuse(night, keyspace.connect(night.settings))
    lineage.tell(night, verdict, held.run)
    return verdict


def question(night: Night, version: str, *, wanted: bool | None = None) -> str | None:
    """What a person is asked before the promotion, as Markdown; None if the candidate would be held anyway."""
    return promote.question(night, keyspace.connect(night.settings), version, wanted=wanted)


def promote_or_hold(
    night: Night,
    version: str,
    held: Lease,
    *,
    wanted: bool | None = None,
    backfill: bool = False,
    answer: promote.Answer | None = None,
) -> Verdict:
    """Move the live pointer if the report says so, and record the night's verdict.

    Args:
        wanted: None follows the report (a backfill then holds); False holds; True lets a backfill promote too.
        answer: of a person who was asked, if one was.
    """
    client = keyspace.connect(night.settings)
    verdict = promote.promote_or_hold(night, client, version, held, wanted=wanted, backfill=backfill, answer=answer)
    lineage.tell(night, verdict, held.run)
    return verdict


def run(night: Night, *, run_id: str, wanted: bool | None = None, backfill: bool = False, rebuild: bool = False) -> Verdict:
    """The whole night, in this process.

    Args:
        wanted: as :func:`promote_or_hold`. backfill: play C and T1 only. rebuild: use nothing of an earlier attempt.
    """
    collect.require_logs(night)
    settings, client = night.settings, keyspace.connect(night.settings)
    with lease.held(client, night.log_date, run_id) as held:
        collect_interactions(night, backfill=backfill, rebuild=rebuild)
        train(night, rebuild=rebuild)
        if not evaluate_gate(night).passed:
            return refuse(night, held)
        recommend(night)
        found = publish_candidate(night, held)
        if settings.experiment_source == "simulate":
            parts = shards_of(
                found["base"],
                found["version"],
                seed=found["seed"],
                episodes=settings.episodes,
                shards=settings.shards,
                batch=settings.batch,
                listeners=found["listeners"],
                tracks=found["tracks"],
            )
            upload_logs(night, found["base"], simulate_all(settings, parts, run_id))
        build_report(night)
        return promote_or_hold(night, found["version"], held, wanted=wanted, backfill=backfill)


def _drop_damaged(night: Night) -> None:
    """Move what is damaged of the night to the trash; the date's catalogue is then taken anew."""
    for kind in (Dated.CATALOGUES, *WRITTEN):
        name = kind.on(night.log_date)
        if night.store.is_complete(name) and not night.store.is_intact(name):
            log.warning("%s is damaged, and goes to the trash", name)
            night.store.remove(name)


def _live_lists(night: Night) -> "ListsOf | None":
    """The lists of the version that the candidate is compared with: as they are served, else from its files."""
    version = Inputs.read(night.store, night.log_date).live
    if not version:
        return None
    client = keyspace.connect(night.settings)
    if publish.is_complete(client, version):
        return lambda users: publish.served_lists(client, version, users)
    lists = dict(lists_in(directory_of(night.store, version) / LISTS))
    return lambda users: {user: lists[user] for user in users if user in lists}
