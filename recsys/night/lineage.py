"""Where a night's data came from and went, told to an OpenLineage backend.

In go the manifests of what a finished night has read and written; out goes one event, which names each directory with its version
and its digest. Whoever sets one of the client's own variables, such as ``OPENLINEAGE__TRANSPORT__TYPE``, is told; else nothing is
imported and nothing is sent. The terms are those of https://openlineage.io/spec/2-0-2/OpenLineage.json.
"""

import logging
import os
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from recsys import __version__, urls
from recsys.exceptions import MissingDataError
from recsys.night.night import WRITTEN, Night
from recsys.schemas import Inputs, Verdict
from recsys.storage.layout import Dated
from recsys.storage.store import Storage
from recsys.versions.content import VERSION, name_of

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.facet_v2 import DatasetFacet

log = logging.getLogger(__name__)

JOB, SOURCE = "nightly_recommender", "NIGHTSHIFT"
PRODUCER = f"urn:nightshift:{__version__}"
#: What a night leaves out that the gate has refused.
OF_A_CANDIDATE = (Dated.RECOMMENDATIONS, Dated.EXPERIMENTS)


class Described(NamedTuple):
    """A directory as OpenLineage names it."""

    namespace: str
    name: str
    facets: "dict[str, DatasetFacet]"


def tell(night: Night, verdict: Verdict, run: str) -> None:
    """Send a finished night's event; a backend that is away is logged and disturbs no night.

    Args:
        run: name of the run, as the audit trail has it; the same run of the same log date is the same run in the lineage.
    """
    if not any(name.startswith("OPENLINEAGE_") and value for name, value in os.environ.items()):
        return
    try:
        from openlineage.client import OpenLineageClient

        OpenLineageClient().emit(event_of(night, verdict, run))
    except Exception as error:  # whatever a transport raises
        log.warning("the lineage of the night of %s was not told: %s: %s", night.log_date, type(error).__name__, error)


def event_of(night: Night, verdict: Verdict, run: str) -> "RunEvent":
    """A finished night as an event: what it has read and written, and what came of it."""
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import job_type_job, nominal_time_run, tags_run
    from openlineage.client.uuid import generate_static_uuid

    begin = datetime.combine(night.log_date, time(), UTC)
    told = {"run": run, "verdict": verdict.verdict, "version": verdict.version}
    facets = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet(begin.isoformat(), (begin + timedelta(days=1)).isoformat()),
        "tags": tags_run.TagsRunFacet([tags_run.TagsRunFacetFields(key, value, SOURCE) for key, value in told.items()]),
    }
    return event_v2.RunEvent(
        eventType=event_v2.RunState.COMPLETE,
        eventTime=datetime.now(UTC).isoformat(),
        run=event_v2.Run(str(generate_static_uuid(begin, f"{night.store.url} {run}".encode())), facets),
        job=event_v2.Job(
            os.environ.get("OPENLINEAGE_NAMESPACE", "nightshift"),
            JOB,
            {"jobType": job_type_job.JobTypeJobFacet("BATCH", SOURCE, "JOB")},
        ),
        inputs=[event_v2.InputDataset(d.namespace, d.name, facets=d.facets) for d in _read(night)],
        outputs=[event_v2.OutputDataset(d.namespace, d.name, facets=d.facets) for d in _written(night, verdict)],
        producer=PRODUCER,
    )


def _read(night: Night) -> list[Described]:
    """The logs of the window, the catalogue, and the lists that the candidate was compared with, unless their files are gone."""
    inputs = Inputs.read(night.store, night.log_date)
    names = [*sorted(inputs.logs), *([night.catalogue] if inputs.catalogue else [])]
    with suppress(MissingDataError):
        names += [name_of(night.store, inputs.live)] if inputs.live else []
    return [_describe(night.store, name) for name in names]


def _written(night: Night, verdict: Verdict) -> list[Described]:
    kinds = [kind for kind in WRITTEN if verdict.verdict != "gate_refused" or kind not in OF_A_CANDIDATE]
    names = [kind.on(night.log_date) for kind in kinds]
    return [_describe(night.store, name) for name in names if night.store.is_complete(name)]


def _describe(store: Storage, name: str) -> Described:
    """A directory's version is that of its lists, else its digest."""
    from openlineage.client.facet_v2 import dataset_version_dataset, tags_dataset

    manifest, parts = store.manifest(name), urlsplit(store.url)
    namespace = "file" if store.is_local else f"hdfs://{urls.bracketed(parts.hostname or '')}:{parts.port or 9870}"
    digest = tags_dataset.TagsDatasetFacetFields("digest", f"sha256:{manifest.checksum}", SOURCE)
    version = dataset_version_dataset.DatasetVersionDatasetFacet(manifest.labels.get(VERSION, manifest.checksum))
    return Described(
        namespace, f"{parts.path.rstrip('/')}/{name}", {"version": version, "tags": tags_dataset.TagsDatasetFacet([digest])}
    )
