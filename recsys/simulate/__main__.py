"""``python -m recsys.simulate``: plays episodes and prints their means.

The last line of standard output is the :class:`~recsys.schemas.ShardResult` as JSON; progress, prompts and errors go to standard
error.
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    # Until main() takes over, Ctrl-C ends this process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from recsys.exceptions import InvalidInputError, RecsysError
from recsys.schemas import ShardResult
from recsys.settings import Settings, load_settings
from recsys.simulate.config import read_env
from recsys.simulate.listeners import load_listeners
from recsys.simulate.recommenders import ConsoleRecommender, DummyRecommender
from recsys.simulate.run import run_in_process, run_shard

DEFAULT_CONFIG = Path("config/env.yml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    before = signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = _simulate(arguments)
    except RecsysError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("simulate: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except _TerminatedError:
        print("simulate: ended by SIGTERM", file=sys.stderr)
        return 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    print(
        f"{result.episodes} episodes: session time {result.mean_time:.3f} +- {result.se_time:.3f}, "
        f"steps {result.mean_steps:.3f} +- {result.se_steps:.3f}"
    )
    # One write, so that whoever reads the output piece by piece gets the line whole.
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
    sys.stdout.flush()
    return 0


class _TerminatedError(SystemExit):
    """SIGTERM came."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _TerminatedError


def _simulate(arguments: argparse.Namespace) -> ShardResult:
    settings = load_settings(world=arguments.world, service_url=arguments.service_url)
    world, config = arguments.world, arguments.config
    if config is None and world is None and "world" not in settings.model_fields_set and DEFAULT_CONFIG.exists():
        config = DEFAULT_CONFIG
    if world is None and config is None:
        world = settings.world
    played = {
        "episodes": arguments.episodes,
        "seed": settings.seed if arguments.seed is None else arguments.seed,
        "shard": arguments.shard,
        "shards": arguments.shards,
        "first_episode": arguments.first_episode,
    }
    if arguments.recommender == "remote":
        return run_shard(
            world,
            _service_url(settings, world, config),
            **played,
            run=arguments.run,
            token=_token(arguments.token_env, settings),
            batch=arguments.batch,
            listeners=arguments.listeners,
            tracks=arguments.tracks,
            in_flight=arguments.in_flight,
            env_config=config,
        )
    listeners = load_listeners(world, config, listeners=arguments.listeners, tracks=arguments.tracks)
    if arguments.recommender == "console":
        recommender = ConsoleRecommender(listeners.catalogue)
        return run_in_process(listeners, recommender, **played, slots=1, progress=False)
    return run_in_process(listeners, DummyRecommender(listeners.catalogue.size, played["seed"]), **played)


def _service_url(settings: Settings, world: Path | None, config: Path | None) -> str:
    """The URL from the command line or environment, else from env.yml, else the default."""
    if "service_url" in settings.model_fields_set:
        return settings.service_url
    if config is None and world is not None and (world / "env.yml").exists():
        config = world / "env.yml"
    return (read_env(config).service_url if config else None) or settings.service_url


def _token(variable: str | None, settings: Settings) -> str | None:
    if variable is None:
        return settings.service_token.get_secret_value() if settings.service_token else None
    token = os.environ.get(variable)
    if token is None:
        raise InvalidInputError(f"environment variable {variable}, named by --token-env, is not set")
    return token


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m recsys.simulate", description="Play simulated listeners.")
    add = parser.add_argument
    add("--episodes", type=int, default=1000, help="episodes of all shards together (default %(default)s)")
    add("--recommender", choices=("dummy", "remote", "console"), default="remote", help="who answers (default %(default)s)")
    add("--config", type=Path, help=f"env.yml; default {DEFAULT_CONFIG} if that exists and no world is given")
    add("--world", type=Path, help="world directory; default RECSYS_WORLD, unless --config names the files")
    add("--seed", type=int, help="seed; default RECSYS_SEED or 31337")
    add("--first-episode", type=int, default=0, help="number of the first episode (default %(default)s)")
    add("--listeners", type=_count, default=0, help="play the first N listeners of the world; 0: all (default %(default)s)")
    add("--tracks", type=_count, default=0, help="with its first N tracks alone; 0: all (default %(default)s)")
    add("--shards", type=int, default=1, help="number of shards (default %(default)s)")
    add("--shard", type=int, default=0, help="which shard to play, from 0 (default %(default)s)")
    add("--service-url", help="where the service is; default RECSYS_SERVICE_URL or env.yml")
    add("--run", help="run id, <base>.<shard>.<try>")
    add("--batch", type=int, default=0, help="events a request to /batch; 0: single requests (default %(default)s)")
    add("--in-flight", type=int, help="requests in flight; default 32, or 4 batches")
    add("--token-env", metavar="NAME", help="environment variable with the service's token; default RECSYS_SERVICE_TOKEN")
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**31 - 1}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
