"""The end of a night: the live pointer moves to the candidate, or the reason why not is recorded.

In go the report's decision and what was asked for; out come ``promotions/date=D`` and the finished report.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

import redis

from recsys.abtest.headline import BACKFILL, GATE_ALONE, NOT_ASKED, NOT_PROMOTED, NOTHING_LIVE, ROLLED_OUT
from recsys.abtest.schema import Decision
from recsys.night.night import Night
from recsys.night.report import decision_of, finish_report
from recsys.rollout.rule import RolloutRule, load_rule
from recsys.schemas import Gate, Inputs, Verdict
from recsys.storage.store import Storage
from recsys.versions import lease, pointer, publish, restore, rollout
from recsys.versions.lease import Lease

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a person said who was asked whether to promote; ``who`` is empty if nobody answered in time."""

    approved: bool
    who: str

    @property
    def reason(self) -> str:
        """Why the candidate is held."""
        return f"{self.who} refused the promotion." if self.who else "Nobody approved the promotion in time."


def proposal(night: Night, serving: str) -> Decision:
    """What the night's report says for the candidate.

    Args:
        serving: the live version; empty: none.
    """
    decision = decision_of(night)
    if rolls_out(night, serving):
        return decision.model_copy(update={"verdict": "promote", "reasons": [*decision.reasons, ROLLED_OUT]})
    return of_live_requests(decision, serving=serving) if night.settings.experiment_source == "live" else decision


def rolls_out(night: Night, serving: str) -> RolloutRule | None:
    """The rule by which real listeners get the night's candidate, if some of them get it first.

    Raises:
        InvalidInputError: the rule is missing or malformed.
    """
    settings = night.settings
    if settings.rollout is None or settings.experiment_source != "live" or not serving:
        return None
    rule = load_rule(settings.rollout)
    return rule if rule.stages[0].share < 100 else None


def question(night: Night, client: redis.Redis, version: str, *, wanted: bool | None = None) -> str | None:
    """What a person is asked before the promotion, as Markdown; None if the candidate would be held anyway."""
    live = pointer.read(client)
    decision = proposal(night, live.version)
    if decision.verdict != "promote" or wanted is False or live.version == version:
        return None
    instead = f"**{live.version}**" if live.version else "nothing"
    reasons = "\n".join(f"- {reason}" for reason in decision.reasons)
    rule = rolls_out(night, live.version)
    would = f"be served to {rule.stages[0].share:g} % of listeners" if rule else "become live"
    return f"**{version}**, made from the logs of {night.log_date}, would {would} instead of {instead}.\n\n{reasons}"


def promote_or_hold(
    night: Night,
    client: redis.Redis,
    version: str,
    held: Lease,
    *,
    wanted: bool | None = None,
    backfill: bool = False,
    answer: Answer | None = None,
) -> Verdict:
    """Move the live pointer if the report says so, or begin a rollout, and record the night's verdict.

    A night that compared its candidate with what was live holds if something else is live by now. A backfill compares with
    nothing; what is live stops it only by being of a later log date.

    Args:
        held: the lease of the run that decides.
        wanted: None follows the report (a backfill then holds); False holds; True lets a backfill promote too.
        answer: of a person who was asked, if one was.
    """
    store = night.store
    live = pointer.read(client)
    decision = proposal(night, live.version)
    done = Verdict.find(store, night.log_date)
    # By requests of real listeners a candidate is measured against what else was live, which it is itself by now.
    moved_on = live.version != version or night.settings.experiment_source == "live"
    if done and done.version == version and done.verdict == "promoted" and moved_on:
        log.info("log date %s was promoted before; live is %s", night.log_date, live.version)
        finish_report(night, done)
        return done
    reasons, moved, begun = list(decision.reasons), False, False
    baseline = Inputs.read(store, night.log_date).live
    if decision.verdict != "promote":
        pass
    elif not (wanted if wanted is not None else not backfill):
        reasons.append(BACKFILL if wanted is None else NOT_ASKED)
    elif answer is not None and not answer.approved:
        reasons.append(answer.reason)
    elif not backfill and live.version not in ("", baseline, version):
        reasons.append(f"The live version moved to {live.version} after this night began.")
    else:
        why = "; ".join(decision.reasons)
        who = f"{held.run}, approved by {answer.who}" if answer else held.run
        rule = rolls_out(night, live.version)
        if rule and live.version != version:
            share = rule.stages[0].share
            begun, sentence = rollout.begin(
                client, version, night.log_date, live.version, share, who=who, why=ROLLED_OUT, held=held
            )
            reasons.append(f"{sentence if begun else NOT_PROMOTED + sentence}.")
        else:
            moved, sentence = pointer.move(
                client, version, night.log_date, who=who, why=why, generation=live.generation, held=held
            )
            if not moved:
                reasons.append(f"{NOT_PROMOTED}{sentence}.")
    serving = version if moved else live.version
    came: Literal["promoted", "rolling_out", "held"] = "promoted" if moved else "rolling_out" if begun else "held"
    verdict = Verdict(verdict=came, reasons=reasons, version=version, live=serving)
    record(night, verdict)
    finish_report(night, verdict)
    if moved or begun:
        restore.save(client, store)
    publish.collect_garbage(client, needed=_compared(night.store, lease.holders(client)))
    return verdict


def _compared(store: Storage, log_dates: Iterable[date]) -> set[str]:
    """The versions that nights under way compare their candidates with."""
    found = (Inputs.find(store, day) for day in log_dates)
    return {inputs.live for inputs in found if inputs}


def of_live_requests(decision: Decision, *, serving: str) -> Decision:
    """What a report of live requests means for a candidate that no listener has been served yet.

    The report speaks of the versions that were live on its days. If that way of recommending won, its retrained candidate
    follows; with nothing live there is nothing to win against, and the gate alone has decided.

    Args:
        serving: the live version; empty: none.
    """
    if serving:
        return decision.model_copy(update={"reasons": [*decision.reasons, GATE_ALONE]})
    return decision.model_copy(update={"verdict": "promote", "reasons": [*decision.reasons, NOTHING_LIVE]})


def refuse(night: Night, client: redis.Redis) -> Verdict:
    """Record the verdict of a night whose candidate the gate has refused."""
    reasons = Gate.read(night.store, night.log_date).reasons
    verdict = Verdict(verdict="gate_refused", reasons=reasons, version="", live=pointer.read(client).version)
    record(night, verdict)
    return verdict


def record(night: Night, verdict: Verdict) -> None:
    """Write ``promotions/date=D``."""
    with night.store.stage(Verdict.KIND.on(night.log_date)) as staging:
        verdict.write(staging)
    log.info("verdict for %s: %s", night.log_date, verdict.verdict)
