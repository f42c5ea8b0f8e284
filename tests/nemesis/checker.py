"""The contract, checked against the whole history of a night: every function gives a sentence for each violation.

What is checked is what the documents promise (architecture, data, runbook, faults), not how the code goes about it.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tests.nemesis.client import Event
from tests.nemesis.history import History, Line, lines_of
from tests.nemesis.propensity import Policies, listened, wrong

#: Statuses of a command that something else keeps from its work: what it needs is away, or answers with errors.
MAY_PASS = (5, 7)
CONFLICT = 6
#: Seconds for which a lease may outlive its holder.
LONGEST_LEASE = 300.0
#: What may make a night hold though its report says promote: its reason names a version, or a person.
MOVED = re.compile(
    r"[Tt]he live version moved to (\S+) (?:after this night began|\(generation)|the live version (\S+) is of a later log date"
)


def check(history: History) -> list[str]:
    """Every violation."""
    checks = (answers, sessions, propensities, nights, pointer, lists, directories, digests, commands, leftovers)
    return [f"{each.__name__}: {sentence}" for each in checks for sentence in each(history)]


def answers(history: History) -> Iterator[str]:
    """Each answered event is in the log once, as it was answered; what is in the log was sent."""
    logged: defaultdict[str, list[Line]] = defaultdict(list)
    for path, lines in lines_of(history.logs / "live"):
        for line in lines:
            if isinstance(line, bytes):
                yield f"{path.name} holds a line that is no JSON object: {line[:100]!r}"
            else:
                logged[str(line["event"])].append(line)
    sent = {event.key: event for event in history.events}
    yield from (f"the log holds event {key}, which nobody sent" for key in logged if key not in sent)
    for event in history.events:
        found = logged[event.key]
        message = "last" if event.last else "next"
        for line in found:
            told = (line["message"], line["user"], line["track"], line["time"])
            if told != (message, event.user, event.track, event.time):
                yield f"event {event.key} was sent as {message} of {event}, and logged as {told}"
        if event.answered and not any(line["recommendation"] == event.answer for line in found):
            yield f"event {event.key} was answered {event.answer}, and its lines say {[li['recommendation'] for li in found]}"
        places = {(line["session"], line["step"]) for line in found if not line["degraded"]}
        if len(places) > 1:
            yield f"event {event.key} was recorded at several places: {sorted(places)}; tries {event.tries}"
        if len({line["recommendation"] for line in found if not line["degraded"]}) > 1:
            yield f"event {event.key} has several answers: {[line['recommendation'] for line in found]}"
    for event in history.events:
        if strange := [status for status in event.tries if isinstance(status, int) and status not in (200, 429, 502, 503, 504)]:
            yield f"event {event.key} was answered status {strange}"
    yield from (f"event {event.key} got no answer although all was whole: {event.tries}" for event in history.unanswered)


def sessions(history: History) -> Iterator[str]:
    """Within a session nothing that was played is answered; sessions and steps go forward; who left begins another one."""
    for user, played in _by_user(history).items():
        left, before = False, (-1, -1)
        heard: dict[int, set[int]] = defaultdict(set)
        for event, lines in played:
            recorded = [line for line in lines if not line["degraded"]]
            if recorded:
                place = recorded[0]["session"], recorded[0]["step"]
                if place <= before:
                    yield f"user {user} went from session and step {before} to {place} at event {event.key}"
                if left and place[0] == before[0]:
                    yield f"user {user} had left session {place[0]}, and is in it again at event {event.key}"
                heard[place[0]].add(event.track)
                if not event.last and recorded[0]["recommendation"] in heard[place[0]]:
                    yield f"user {user} was answered track {recorded[0]['recommendation']} again in session {place[0]}"
                before = place
            if recorded or not history.service_restarted:
                # Departures that were noted while Redis was away are lost if the whole service is.
                left = event.last and event.answered
    yield from _without_redis(history)


def _without_redis(history: History) -> Iterator[str]:
    """What a worker answers without Redis does not repeat while Redis is away."""
    for path, lines in lines_of(history.logs / "live"):
        answered: defaultdict[int, set[int]] = defaultdict(set)
        seen: set[str] = set()
        for line in (line for line in lines if isinstance(line, dict)):
            if not line["degraded"]:
                answered.clear()
            elif line["message"] == "last":
                answered.pop(line["user"], None)
            else:
                if line["recommendation"] in answered[line["user"]] and line["event"] not in seen:
                    yield f"{path.name}: user {line['user']} was answered track {line['recommendation']} again without Redis"
                answered[line["user"]] |= {line["recommendation"], line["track"]}
                seen.add(line["event"])


def propensities(history: History) -> Iterator[str]:
    """Each is a probability, and the one with which the policy chooses that answer among those that it could have given."""
    policies = Policies(history.storage, history.tracks)
    for path, lines in lines_of(history.logs / "live"):
        for line in (line for line in lines if isinstance(line, dict) and line["message"] == "next"):
            if not (isinstance(line["propensity"], float) and 0 < line["propensity"] <= 1):
                yield f"{path.name}: propensity {line['propensity']} of event {line['event']}"
    for user, played in _by_user(history).items():
        whole: dict[int, list[tuple[Event, Line]]] = defaultdict(list)
        broken: set[int] = set()
        last_session = -1
        for event, lines in played:
            recorded = [line for line in lines if not line["degraded"]]
            if recorded:
                last_session = recorded[0]["session"]
                whole[last_session].append((event, recorded[0]))
            if not recorded or len(lines) != len(recorded):
                # It may or may not stand in the session that Redis keeps.
                broken.add(last_session)
        for session, steps in whole.items():
            if session in broken or [line["step"] for _, line in steps] != list(range(len(steps))):
                continue
            heard: list[int] = []
            for event, line in steps:
                heard.append(event.track)
                share = history.exploration if line["version"] else 0.0
                if line["message"] == "next" and (why := wrong(line, heard, share, policies)):
                    yield f"user {user}, session {session}, step {line['step']}: {why}"


def nights(history: History) -> Iterator[str]:
    """Stored logs: each event once, sessions from their first step to their end, what is answered is played, propensities."""
    policies = Policies(history.storage, history.tracks)
    for directory in sorted([*history.storage.glob("logs/date=*"), *history.storage.glob("experiments/date=*")]):
        name = str(directory.relative_to(history.storage))
        counts = json.loads((directory / "manifest.json").read_bytes())["counts"]
        exploration = json.loads((directory / "run.json").read_bytes())["exploration"]
        found: dict[tuple[int, int], dict[int, Line]] = defaultdict(dict)
        for path, lines in lines_of(directory):
            for line in lines:
                if isinstance(line, bytes):
                    yield f"{name}/{path.name} holds a line that is no JSON object: {line[:100]!r}"
                elif line["degraded"]:
                    yield f"{name}/{path.name} holds an answer without Redis"
                else:
                    steps = found[line["user"], line["session"]]
                    yield from _same(name, steps.setdefault(line["step"], line), line)
        for (user, session), steps in found.items():
            for sentence in _session([steps[step] for step in sorted(steps)], exploration, policies):
                yield f"{name}: user {user}, session {session}{sentence}"
        every = [line["message"] for steps in found.values() for line in steps.values()]
        totals = {message: every.count(message) for message in ("next", "last")}
        if totals != {message: counts[message] for message in totals}:
            yield f"{name} holds {totals}, and its manifest says {counts}"


def _session(steps: list[Line], exploration: float, policies: Policies) -> Iterator[str]:
    messages = [line["message"] for line in steps]
    if [line["step"] for line in steps] != list(range(len(steps))) or messages != ["next"] * (len(steps) - 1) + ["last"]:
        yield f" has steps {[line['step'] for line in steps]} and messages {messages}"
        return
    for before, after in pairwise(steps):
        if after["track"] != before["recommendation"]:
            yield f", step {after['step']}: {before['recommendation']} was answered, and {after['track']} played"
    for line, heard in listened(steps):
        if line["recommendation"] in heard:
            yield f", step {line['step']}: track {line['recommendation']} again"
        if why := wrong(line, heard, exploration, policies):
            yield f", step {line['step']}: {why}"


def _same(name: str, one: Line, other: Line) -> Iterator[str]:
    """Lines of one session and step tell one event."""
    fields = ("message", "track", "time", "recommendation", "event", "propensity", "source", "version")
    if differing := [field for field in fields if one[field] != other[field]]:
        place = f"user {one['user']}, session {one['session']}, step {one['step']}"
        yield f"{name}: two events at {place}: they differ in {differing}"


def pointer(history: History) -> Iterator[str]:
    """The pointer moves one generation at a time, each move is in the trail, each promotion has its night's report behind it."""
    at = [("", 0)]
    for move in history.redis.moves:
        version, generation = at[-1]
        if move.action in ("hold", "release"):
            continue
        if move.source != version:
            yield f"{move.action} to {move.to} began at {move.source or 'nothing'}, but {version or 'nothing'} was live"
        at.append((move.to, generation + 1))
        if move.action != "promote":
            yield f"{move} was asked for by nobody"
        else:
            yield from _justified(history.storage, move.to)
    final = history.redis.pointer
    if (final.version, final.generation) != at[-1]:
        yield f"{final} is live, but the trail ends with {at[-1]}"
    before = 0
    for seen in history.redis.snapshots:
        if seen.generation < before:
            yield f"the pointer went back from generation {before} to {seen.generation}"
        elif seen.generation >= len(at) or at[seen.generation][0] != seen.version:
            yield f"{seen} was live, which the trail does not know"
        before = seen.generation
    promoted = {move.to for move in history.redis.moves if move.action == "promote"}
    for path in history.storage.glob("promotions/date=*/promotion.json"):
        verdict = json.loads(path.read_bytes())
        if verdict["verdict"] == "promoted" and verdict["version"] not in promoted:
            yield f"{path.parent.name} says that {verdict['version']} was promoted, and the trail does not know it"


def _justified(storage: Path, version: str) -> Iterator[str]:
    day = f"date={version[:10]}"
    try:
        report = json.loads((storage / "reports" / day / "report.json").read_bytes())
        gate = json.loads((storage / "gates" / day / "gate.json").read_bytes())
        verdict = json.loads((storage / "promotions" / day / "promotion.json").read_bytes())
    except OSError as error:
        yield f"{version} was promoted, but {error.filename} is not there"
        return
    if not gate["passed"]:
        yield f"{version} was promoted, and its gate refused it"
    if report["decision"]["verdict"] != "promote":
        yield f"{version} was promoted, and its report says {report['decision']}"
    if (verdict["verdict"], verdict["version"]) != ("promoted", version):
        yield f"{version} was promoted, and its night says {verdict}"


def lists(history: History) -> Iterator[str]:
    """What is live is whole: each user's list is in Redis as it stands in the file."""
    version = history.redis.pointer.version
    if not version:
        return
    path = history.storage / "recommendations" / f"date={version[:10]}" / "recommendations.json"
    if not path.exists():
        yield f"{version} is live, and {path} is not there"
        return
    filed = {row["user"]: row["tracks"] for row in map(json.loads, path.read_text().splitlines())}
    if missing := sorted(set(filed) ^ set(history.redis.lists)):
        yield f"{version} is live, and of {len(filed)} users these are in Redis or in the file alone: {missing[:10]}"
    differing = [user for user, tracks in history.redis.lists.items() if filed.get(user, tracks) != tracks]
    if differing:
        yield f"{version} is live, and the lists of users {differing[:10]} in Redis are not those of the file"


def directories(history: History) -> Iterator[str]:
    """What holds files is a whole published directory, and nothing else stands in the storage but its trash."""
    yield from (f"seen by halves: {name}" for name in history.seen)
    for directory in sorted({path.parent for path in history.storage.rglob("*") if not path.is_dir()}):
        name = str(directory.relative_to(history.storage))
        parts = name.split("/")
        if parts[0] == ".trash":
            continue
        if any(part.startswith(".") for part in parts):
            yield f"{name} is left of a writer, though the storage was cleaned"
            continue
        try:
            manifest = json.loads((directory / "manifest.json").read_bytes())
        except (OSError, ValueError) as error:
            yield f"{name} has no manifest that can be read: {error}"
            continue
        files = {path.name: path for path in directory.iterdir() if path.name not in ("manifest.json", "_SUCCESS")}
        if not (directory / "_SUCCESS").exists():
            yield f"{name} has no _SUCCESS"
        if set(files) != {file["name"] for file in manifest["files"]}:
            yield f"{name} holds {sorted(files)}, and its manifest tells other files"
            continue
        for file in manifest["files"]:
            content = files[file["name"]].read_bytes()
            if (len(content), hashlib.sha256(content).hexdigest()) != (file["bytes"], file["sha256"]):
                yield f"{name}/{file['name']} is not what its manifest says"


def digests(history: History) -> Iterator[str]:
    """A night is the undisturbed one, or was held for a reason that the pointer bears out; all else is the same then."""
    moved = {move.to for move in history.redis.moves}
    for log_date, reference in history.expected.items():
        digest = history.digests.get(log_date)
        if digest == reference.digest:
            continue
        if digest is None:
            yield f"the night of {log_date} has no digest"
            continue
        verdict = json.loads((history.storage / "promotions" / f"date={log_date}" / "promotion.json").read_bytes())
        named = [name for reason in verdict["reasons"] for found in MOVED.findall(reason) for name in found if name]
        if verdict["verdict"] != "held" or not named or not moved.issuperset(named):
            yield f"the night of {log_date} has digest {digest}, undisturbed {reference.digest}; verdict {verdict}"
            continue
        for kind in ("recommendations", "gates", "models"):
            yield from _differ(history.storage, reference.storage, f"{kind}/date={log_date}")
        if _played(history.storage, log_date) != _played(reference.storage, log_date):
            yield f"the experiment of {log_date} is not that of the undisturbed night"


def _differ(storage: Path, undisturbed: Path, name: str) -> Iterator[str]:
    """Files that differ; a card tells times and sources, too."""
    for path in sorted((undisturbed / name).iterdir()):
        if path.name not in ("manifest.json", "card.json") and path.read_bytes() != (storage / name / path.name).read_bytes():
            yield f"{name}/{path.name} is not that of the undisturbed night"


def _played(storage: Path, log_date: str) -> set[tuple[int, int, int, int, float, int | None]]:
    fields = ("user", "session", "step", "track", "time", "recommendation")
    files = lines_of(storage / "experiments" / f"date={log_date}")
    return {tuple(line[field] for field in fields) for _, lines in files for line in lines if isinstance(line, dict)}


def commands(history: History) -> Iterator[str]:
    """No command ends in a traceback, nor with a status that nothing explains; the service says of no mistake in code."""
    for ran in history.commands:
        what = f"'{ran.command}' (status {ran.status}, signals {ran.signals})"
        if "Traceback" in ran.output:
            yield f"{what} printed a traceback: …{ran.output[ran.output.index('Traceback') :][:3000]}"
        statuses = {0, *MAY_PASS, *(-number for number in ran.signals), *(128 + number for number in ran.signals)}
        if not history.alone:
            statuses.add(CONFLICT)
        if ran.status not in statuses:
            yield f"{what}: {ran.output.strip()[-600:]}"
        elif ran.status > 0 and not ran.signals and not ran.output.strip().splitlines()[-1].startswith("recsys: "):
            yield f"{what} does not end with a line that says why: {ran.output.strip()[-600:]}"
    for name, output in history.outputs.items():
        if "Traceback" in output or "panicked" in output:
            yield f"{name} printed a traceback: {output[output.find('Traceback') :][:3000]}"


def leftovers(history: History) -> Iterator[str]:
    """Nothing runs any more, and nobody holds a log date for longer than a dead holder may."""
    yield from (f"still running: {process}" for process in history.left)
    for lease in history.redis.leases:
        if lease.seconds > LONGEST_LEASE:
            yield f"{lease} is held for too long"
        elif lease.seconds > 0 and not lease.run.startswith("collector-"):
            yield f"{lease} is held though its night has ended"


def _by_user(history: History) -> dict[int, list[tuple[Event, list[Line]]]]:
    """Each user's events in their order, with their lines."""
    logged: defaultdict[str, list[Line]] = defaultdict(list)
    for _, lines in lines_of(history.logs / "live"):
        for line in lines:
            if isinstance(line, dict):
                logged[str(line["event"])].append(line)
    found: defaultdict[int, list[tuple[Event, list[Line]]]] = defaultdict(list)
    for event in history.events:
        found[event.user].append((event, logged[event.key]))
    return found
