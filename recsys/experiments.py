"""The live experiment, from configuration: which arms live requests are split between.

A file says::

    experiment: DAE_VS_CONTEXTUAL    # or null: everybody gets the live version's lists
    salt: ""
    arms:
      - {name: C, recommender: contextual}
      - {name: T1, recommender: dae, weight: 1}
"""

from pathlib import Path
from typing import Any, cast, get_args

from recsys.exceptions import InvalidInputError
from recsys.schemas import EXPERIMENT, Arm, Experiment, Recommender
from recsys.yaml_file import read_yaml

ORIGINAL = Experiment(EXPERIMENT, (Arm("C", "contextual"), Arm("T1", "dae")))
MAX_WEIGHT = 100


def load_live_experiment(path: Path | None) -> Experiment | None:
    """Read the experiment of live requests; the original's half-and-half split without a file.

    Raises:
        InvalidInputError: the file is missing or malformed; the message names the key.
    """
    if path is None:
        return ORIGINAL
    data = read_yaml(path, "experiments file")
    if not isinstance(data, dict) or "experiment" not in data:
        raise InvalidInputError(f"experiments file {path} must have the key 'experiment' (a name or null)")
    if data["experiment"] is None:
        return None
    name, salt, arms = data["experiment"], data.get("salt", ""), data.get("arms")
    if not isinstance(name, str) or not isinstance(salt, str):
        raise InvalidInputError(f"experiments file {path}: experiment {name!r} and salt {salt!r} must be strings")
    if not isinstance(arms, list) or len(arms) < 2:
        raise InvalidInputError(f"experiments file {path}: arms must be a list of at least two, not {arms!r}")
    slots: list[Arm] = []
    for arm in arms:
        slots += _arm(path, arm)
    if len({slot.name for slot in slots}) != len(arms):
        raise InvalidInputError(f"experiments file {path}: names of arms must be distinct")
    return Experiment(name, tuple(slots), salt)


def _arm(path: Path, arm: Any) -> list[Arm]:
    if not isinstance(arm, dict) or not isinstance(arm.get("name"), str):
        raise InvalidInputError(f"experiments file {path}: arm {arm!r} must have a name")
    recommender, weight = arm.get("recommender"), arm.get("weight", 1)
    if recommender not in get_args(Recommender):
        known = ", ".join(get_args(Recommender))
        raise InvalidInputError(f"experiments file {path}: recommender {recommender!r} of arm {arm['name']} is none of {known}")
    if type(weight) is not int or not 1 <= weight <= MAX_WEIGHT:
        raise InvalidInputError(f"experiments file {path}: weight {weight!r} must be an integer from 1 to {MAX_WEIGHT}")
    return [Arm(arm["name"], cast(Recommender, recommender))] * weight
