"""The night without Airflow: one thin function a task, and :func:`run` which calls them in order.

Every function takes the settings and the log date, reads and writes dated directories, and returns a small JSON-ready dictionary,
so that an Airflow task is one call.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import date
from typing import Any

from recsys import catalog
from recsys.exceptions import MissingDataError
from recsys.logs import real_listeners as live_requests
from recsys.logs import upload as logs
from recsys.schemas import EXPERIMENT, Arm, Experiment, RunSpec, ShardResult, night_seed
from recsys.settings import Settings
from recsys.simulate.shards import simulate_all
from recsys.storage.store import Storage
from recsys.versions import keyspace, lease, pointer, publish, restore
from recsys.versions.content import read_directory
from recsys.versions.runs import open_run

log = logging.getLogger(__name__)

Summary = dict[str, Any]

#: Events a call when traffic is played; a night uses single requests unless told otherwise.
TRAFFIC_BATCH = 256
#: Sessions of a log date's traffic unless told otherwise.
TRAFFIC_SESSIONS = 20_000


def wait_for_logs(settings: Settings, log_date: date) -> bool:
    """Whether the log date's logs have been published."""
    return Storage(settings.storage_url).is_complete(f"logs/date={log_date}")


def collect(settings: Settings, log_date: date, *, run: str, backfill: bool = False) -> Summary:
    """Take the log date's lease and turn its window of logs into interactions.

    The live version at the first attempt is the night's baseline; a rerun keeps it.
    """
    from recsys.night.collect import collect_interactions

    store = Storage(settings.storage_url)
    client = keyspace.connect(settings)
    lease.take(client, log_date, run)
    name = f"interactions/date={log_date}"
    if store.is_complete(name):
        baseline = str(store.read_json(name, "inputs.json")["live"])
    else:
        baseline = "" if backfill else pointer.read(client).version
    return collect_interactions(store, log_date, settings, live=baseline)


def train(settings: Settings, log_date: date) -> Summary:
    """Train the night's models."""
    from recsys.night.train import train as train_models

    return train_models(Storage(settings.storage_url), log_date, settings.world, settings)


def gate(settings: Settings, log_date: date) -> Summary:
    """Decide whether the candidate is worth publishing; ``passed`` says it."""
    from recsys.night.gate import decide

    store = Storage(settings.storage_url)
    baseline = _baseline(store, log_date)
    return decide(store, log_date, settings.world, settings, _version_date(baseline))


def recommend(settings: Settings, log_date: date) -> Summary:
    """Write every user's list."""
    from recsys.night.recommend import recommend as write_lists

    return write_lists(Storage(settings.storage_url), log_date, settings.world, settings)


def publish_candidate(settings: Settings, log_date: date) -> Summary:
    """Publish the lists as a version and register the night's run: ``base``, ``version``, ``seed``."""
    store = Storage(settings.storage_url)
    client = keyspace.connect(settings)
    content = read_directory(store.local(f"recommendations/date={log_date}"))
    version = publish.publish_version(client, content, log_date)
    baseline = _baseline(store, log_date)
    arms = [Arm("C", "contextual", version), Arm("T1", "dae", version)]
    if content.sessions:
        arms.append(Arm("T2", "session", version))
    if baseline and baseline != version:
        restore.publish_again(client, store, baseline)
        arms.append(Arm("L", "dae", baseline))
    seed = night_seed(settings.seed, log_date)
    spec = _spec(version, version, 0.0, seed, Experiment(EXPERIMENT, tuple(arms), str(log_date)), settings)
    open_run(client, spec)
    return {"version": version, "base": spec.base, "seed": seed, "arms": [arm.name for arm in arms]}


def upload(settings: Settings, log_date: date, base: str, results: Sequence[Summary], *, cleanup: bool = True) -> Summary:
    """Move the night's logs into the storage."""
    return _upload(settings, f"experiments/date={log_date}", base, results, cleanup)


def report(settings: Settings, log_date: date) -> Summary:
    """Analyse the night's experiment and write the report; returns its decision and effect."""
    from recsys.abtest.report import build_report

    store = Storage(settings.storage_url)
    if settings.experiment_source == "live":
        experiment: Experiment | None = live_requests.experiment(settings)
        sources = live_requests.sources(store, log_date, settings.live_days)
    else:
        sources = [f"experiments/date={log_date}"]
        experiment = RunSpec.from_json(store.read_json(sources[0], "run.json")).experiment
    if experiment is None:
        raise MissingDataError(f"experiments/date={log_date} was not an experiment; run the night again")
    gate = store.read_json(f"gates/date={log_date}", "gate.json")
    model = store.read_json(f"models/date={log_date}", "card.json")
    built = build_report(store, log_date, settings, experiment, gate=gate, model=model, sources=sources)
    return {"decision": built["decision"], "sessions": built["sessions"]}


def refuse(settings: Settings, log_date: date, *, run: str) -> Summary:
    """Write the report and the verdict of a night that the gate refused."""
    from recsys.abtest.report import build_refused_report

    store = Storage(settings.storage_url)
    gate = store.read_json(f"gates/date={log_date}", "gate.json")
    build_refused_report(store, log_date, gate)
    client = keyspace.connect(settings)
    serving = pointer.read(client).version
    verdict = _record(store, log_date, {"verdict": "gate_refused", "reasons": gate["reasons"], "version": "", "live": serving})
    lease.drop(client, log_date, run)
    return verdict


def promote(
    settings: Settings, log_date: date, *, run: str, version: str, promote: bool | None = None, backfill: bool = False
) -> Summary:
    """Move the live pointer if the report says so, and record the night's verdict.

    Args:
        promote: None follows the report (a backfill then holds); False holds; True lets a backfill promote too.
    """
    from recsys.abtest.report import finish_report

    store = Storage(settings.storage_url)
    client = keyspace.connect(settings)
    decision = store.read_json(f"reports/date={log_date}", "report.json")["decision"]
    now = pointer.read(client)
    if settings.experiment_source == "live":
        decision = live_requests.decide(decision, serving=now.version)
    reasons = list(decision["reasons"])
    done = _recorded(store, log_date)
    if done and done["version"] == version and done["verdict"] == "promoted" and now.version != version:
        log.info("log date %s was promoted before; live has moved on to %s", log_date, now.version)
        finish_report(store, log_date, done)
        lease.drop(client, log_date, run)
        return done
    wanted = promote if promote is not None else not backfill
    moved = False
    if decision["verdict"] != "promote":
        pass
    elif not wanted:
        reasons.append("Promotion was not asked for.")
    elif now.version not in ("", _baseline(store, log_date), version):
        reasons.append(f"The live version moved to {now.version} after this night began.")
    else:
        moved, sentence = pointer.move(
            client, version, log_date, who=run, why="; ".join(decision["reasons"]), generation=now.generation
        )
        if not moved:
            reasons.append(f"Not promoted: {sentence}.")
    serving = version if moved else now.version
    verdict = {"verdict": "promoted" if moved else "held", "reasons": reasons, "version": version, "live": serving}
    _record(store, log_date, verdict)
    finish_report(store, log_date, verdict)
    if moved:
        restore.save(client, store)
    else:
        # A promotion does it itself; after nights that hold, versions would pile up in Redis.
        publish.collect_garbage(client)
    lease.drop(client, log_date, run)
    return verdict


def run(settings: Settings, log_date: date, *, run_id: str, promote_it: bool | None = None, backfill: bool = False) -> Summary:
    """The whole night for one log date, in this process; returns the verdict.

    Args:
        backfill: play C and T1 only, and hold unless ``promote_it`` is true.
    """
    if not wait_for_logs(settings, log_date):
        raise MissingDataError(
            f"logs/date={log_date} is not in {settings.storage_url}; collect it with 'recsys traffic --date {log_date}'"
        )
    client = keyspace.connect(settings)
    with lease.held(client, log_date, run_id):
        collect(settings, log_date, run=run_id, backfill=backfill)
        train(settings, log_date)
        if not gate(settings, log_date)["passed"]:
            return refuse(settings, log_date, run=run_id)
        recommend(settings, log_date)
        candidate = publish_candidate(settings, log_date)
        if settings.experiment_source == "simulate":
            results = simulate_all(settings, candidate["base"], settings.episodes, candidate["seed"], run_id)
            upload(settings, log_date, candidate["base"], results)
        report(settings, log_date)
        return promote(settings, log_date, run=run_id, version=candidate["version"], promote=promote_it, backfill=backfill)


def traffic_plan(settings: Settings, log_date: date, sessions: int) -> Summary:
    """Register a run of simulated traffic, served by what is live: ``base``, ``shards``, ``seed``, ``done`` if there.

    With real listeners nothing is simulated: their requests are stored, and the date is done.
    """
    done = wait_for_logs(settings, log_date)
    if settings.experiment_source == "live" and not done:
        live_requests.upload(settings, log_date)
        done = True
    client = keyspace.connect(settings)
    version = pointer.read(client).version
    seed = night_seed(settings.seed + 1, log_date)
    share = settings.exploration if version else 1.0
    spec = _spec(f"traffic-{log_date}", version, share, seed, None, settings)
    if not done:
        open_run(client, spec)
    return {
        "base": spec.base, "version": version, "shards": list(range(settings.shards)), "seed": seed,
        "sessions": sessions, "done": done,
    }  # fmt: skip


def traffic_upload(settings: Settings, log_date: date, base: str, results: Sequence[Summary]) -> Summary:
    """Move the traffic's logs into the storage as ``logs/date=D``."""
    return _upload(settings, f"logs/date={log_date}", base, results, cleanup=True)


def traffic(settings: Settings, log_date: date, sessions: int, *, run_id: str) -> Summary:
    """Simulated listeners of one log date, served by what is live; nothing if the date is there already."""
    plan = traffic_plan(settings, log_date, sessions)
    if plan["done"]:
        log.info("logs/date=%s is there already", log_date)
        return Storage(settings.storage_url).manifest(f"logs/date={log_date}").counts
    results = simulate_all(settings, plan["base"], sessions, plan["seed"], run_id, batch=TRAFFIC_BATCH)
    return traffic_upload(settings, log_date, plan["base"], results)


def _spec(base: str, version: str, exploration: float, seed: int, experiment: Experiment | None, settings: Settings) -> RunSpec:
    """A specification whose base carries four hexadecimal digits of its content: another content is another run."""
    tracks = catalog.load_tracks(settings.world).size
    spec = RunSpec(base, version, exploration, seed, experiment, tracks)
    mark = hashlib.sha256(json.dumps(spec.to_json(), sort_keys=True).encode()).hexdigest()[:4]
    return RunSpec(f"{base}-{mark}", version, exploration, seed, experiment, tracks)


def _upload(settings: Settings, name: str, base: str, results: Sequence[Summary], cleanup: bool) -> Summary:
    shards = [ShardResult(**result) for result in results]
    data = keyspace.connect(settings).get(keyspace.run_key(base))
    if data is None:
        raise MissingDataError(f"run {base} is not registered in Redis; publish its version again")
    spec = RunSpec.from_json(json.loads(data))
    store = Storage(settings.storage_url)
    return dict(logs.upload(store, settings.log_dir, shards, name, spec, cleanup=cleanup))


def _baseline(store: Storage, log_date: date) -> str:
    return str(store.read_json(f"interactions/date={log_date}", "inputs.json")["live"])


def _version_date(version: str) -> date | None:
    return date.fromisoformat(version[:10]) if version else None


def _recorded(store: Storage, log_date: date) -> Summary | None:
    name = f"promotions/date={log_date}"
    return dict(store.read_json(name, "promotion.json")) if store.is_complete(name) else None


def _record(store: Storage, log_date: date, verdict: Summary) -> Summary:
    with store.stage(f"promotions/date={log_date}") as staging:
        (staging / "promotion.json").write_text(json.dumps(verdict, indent=1, sort_keys=True))
    log.info("verdict for %s: %s", log_date, verdict["verdict"])
    return verdict
