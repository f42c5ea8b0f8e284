"""Hyperparameters of the autoencoder, a mapped task a configuration. The logic stands in ``recsys.night.tune``."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import run_context
from airflow.sdk import Param, dag, get_current_context, task
from run_context import Told, step

DOC = """
### What it does
Trains the autoencoder once for every combination of the Param `grid` on the interactions of `log_date` (which a night must have
collected), and ranks the trials by NDCG@100 on held-out users. `tuning/date=D/leaderboard` gets `leaderboard.json`,
`leaderboard.png` and `best.json`. Nights adopt it by one setting: `RECSYS_DAE=<storage>/tuning/date=D/leaderboard/best.json`.

A trial that has ended is not trained again; one that was killed goes on from its last epoch.

### Triage
| task | if it fails |
|---|---|
| configurations | the Param `grid` is not a grid of hyperparameters: the message names the value |
| trial | no interactions of this date: run its night first; out of memory: smaller `layers` or `batch`, clear the task |
| leaderboard | no trial has ended: clear the failed trials |

Owner: recommendations. More: docs/runbook.md.
"""


@task
@step
def configurations() -> list[Told]:
    """Every combination of the grid."""
    from recsys.night import tune

    return tune.configurations(get_current_context()["params"]["grid"] or tune.GRID)


@task(max_active_tis_per_dagrun=1, execution_timeout=timedelta(hours=2))
@step
def trial(configuration: Told) -> Told:
    """Train one configuration."""
    from recsys.night import tune

    return tune.trial(run_context.night(), configuration).model_dump(mode="json")


@task(trigger_rule="all_done")
@step
def leaderboard(results: Iterable[Told | None]) -> Told:
    """Rank the trials that have ended."""
    from recsys.night import tune

    best, path = tune.leaderboard(run_context.night(), [tune.Trial.model_validate(result) for result in results if result])
    return {**best.model_dump(mode="json"), "best": path}


@dag(
    dag_id="tune_dae",
    dag_display_name="Tune the autoencoder",
    description="Try hyperparameters of the autoencoder on one log date",
    doc_md=DOC,
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=24),
    on_failure_callback=run_context.FAILED,
    default_args=run_context.DEFAULT_ARGS,
    tags=["recommender", "tuning"],
    params={
        "log_date": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Log date",
            description="The date whose interactions are learned from; empty: yesterday.",
        ),
        "grid": Param(
            None,
            type=["null", "object"],
            title="Grid",
            description='Values by hyperparameter, such as {"layers": [[128], [256]], "dropout": [0.5]}; empty: a small grid.',
        ),
    },
)
def tune_dae() -> None:
    """Wire the three tasks; their outputs stand for what they will give, which types cannot say."""
    leaderboard(trial.expand(configuration=configurations()))  # type: ignore[arg-type]


tune_dae()
