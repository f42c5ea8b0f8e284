"""Where Airflow's connections say that things are: the URL of Redis, and the NameNode of a storage that names none.

It stands among the plugins because both the tasks and the pages need it, and the api-server does not see the folder of the DAGs.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import SecretStr

from recsys import urls
from recsys.exceptions import InvalidInputError, UnavailableError

if TYPE_CHECKING:
    from airflow.models.connection import Connection as OfDatabase
    from airflow.sdk import Connection

REDIS = "redis_default"
WEBHDFS = "webhdfs_default"


def without_the_session_of_others(name: str) -> "OfDatabase":
    """A connection for who is called amidst somebody else's transaction, such as the scheduler's listeners.

    Airflow's usual way would take that transaction's session, and close it.

    Raises:
        AirflowNotFoundException: there is none.
    """
    from airflow.configuration import ensure_secrets_loaded
    from airflow.secrets.metastore import MetastoreBackend
    from airflow.utils.session import create_session

    for backend in ensure_secrets_loaded():
        if isinstance(backend, MetastoreBackend):
            with create_session(scoped=False) as own:
                found = backend.get_connection(name, session=own)
        else:
            found = backend.get_connection(name)
        if found:
            return found
    raise AirflowNotFoundException(f"The conn_id `{name}` isn't defined")


def redis_url(get: "Callable[[str], Connection | OfDatabase]" = BaseHook.get_connection) -> SecretStr:
    """The URL of Redis.

    Args:
        get: looks a connection up.

    Raises:
        InvalidInputError: there is no such connection, or it names no host.
    """
    try:
        connection = get(REDIS)
    except AirflowNotFoundException:
        raise InvalidInputError(f"Airflow has no connection {REDIS}, which says where Redis is; make one") from None
    if not connection.host:
        raise InvalidInputError(f"Airflow's connection {REDIS} names no host; give it one")
    extra = connection.extra_dejson
    login = connection.login or "" if connection.password else ""
    where = urls.authority(connection.host, connection.port or 6379, login, connection.password or "")
    scheme = "rediss" if extra.get("ssl") else "redis"
    return SecretStr(f"{scheme}://{where}/{quote(str(extra.get('db') or 0), safe='')}")


def storage_url(storage: str) -> str:
    """The storage's URL; one without a host, ``webhdfs:///root``, gets the NameNode that answers from its connection.

    Raises:
        UnavailableError: there is no such connection, or no NameNode answers where it says.
    """
    parts = urls.split(storage, "storage")
    if parts.scheme != "webhdfs" or parts.hostname:
        return storage
    from airflow.providers.apache.hdfs.hooks.webhdfs import WebHDFSHook

    try:
        found = urlsplit(WebHDFSHook(WEBHDFS).get_conn().url)
        login = BaseHook.get_connection(WEBHDFS).login or ""
    except Exception as error:  # what a wrong host, port or answer makes the hook's libraries raise
        raise UnavailableError(
            f"storage {storage!r} names no host, and Airflow's connection {WEBHDFS} leads to no NameNode "
            f"({type(error).__name__}: {error}); mend the connection, or name a host"
        ) from error
    return f"webhdfs://{urls.authority(found.hostname or '', found.port or 9870, login)}{parts.path}"
