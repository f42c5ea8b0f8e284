"""A signal ends a block by :class:`Stopped`, whatever a library makes of it."""

import os
import signal
import threading

import duckdb
import pytest

from recsys.exceptions import InvalidInputError, Stopped, stopped_by_signals

#: Takes seconds.
LONG_QUERY = "SELECT sum(hash(range)) FROM range(2_000_000_000)"


@pytest.mark.drill("commands", "a signal while DuckDB answers a query", "the status of the signal, not a fault of recsys")
def test_a_signal_in_a_query_of_duckdb_is_no_error_of_the_query() -> None:
    sender = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)

    def ask(db: duckdb.DuckDBPyConnection) -> None:
        sender.start()
        db.execute(LONG_QUERY)

    with pytest.raises(Stopped) as stopped, duckdb.connect() as db, stopped_by_signals():
        ask(db)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_without_a_signal_an_error_stays_what_it_is() -> None:
    with pytest.raises(InvalidInputError), stopped_by_signals():
        raise InvalidInputError("x")
