"""Addresses of databases, and the driver that reaches them."""

from __future__ import annotations

from types import ModuleType
from urllib.parse import parse_qsl, urlencode, urlsplit

from geoseg.errors import InputError

__all__ = ["is_database_url", "psycopg_module", "split_address"]


def is_database_url(output: str) -> bool:
    """Whether an output is a database's address and not a file."""
    return output.startswith(("postgresql://", "postgres://"))


def split_address(url: str, option: str) -> tuple[str, str, str | None]:
    """Take an option of ours out of a database's address.

    Args:
        url: postgresql://USER@HOST/DATABASE?option=VALUE; the option may be left out.
        option: its name.

    Returns:
        The address as libpq takes it, which may hold a password and is never shown; host and
        database, for messages; and the option's value, None where it is left out.

    Raises:
        InputError: if the address makes no sense.
    """
    try:
        parts = urlsplit(url)
        place = f"{parts.hostname or 'localhost'}{parts.path}"
    except ValueError as error:
        raise InputError("the address of the database makes no sense") from error
    options = parse_qsl(parts.query, keep_blank_values=True)
    values = [value for key, value in options if key == option]
    rest = urlencode([(key, value) for key, value in options if key != option])
    server = f"{parts.scheme}://{parts.netloc}{parts.path}"  # urlunsplit drops an empty host
    return f"{server}?{rest}" if rest else server, place, values[-1] if values else None


def psycopg_module() -> ModuleType:
    """The PostgreSQL driver, an extra.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import psycopg
        import psycopg.sql
    except ImportError as error:
        raise InputError(
            "writing to PostGIS needs psycopg; install it with pip install 'geoseg[postgis]'"
        ) from error
    return psycopg
