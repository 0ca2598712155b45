"""Addresses of databases, and the driver that reaches them."""

from __future__ import annotations

from types import ModuleType

from geoseg.errors import InputError

__all__ = ["is_database_url", "psycopg_module"]


def is_database_url(output: str) -> bool:
    """Whether an output is a database's address and not a file."""
    return output.startswith(("postgresql://", "postgres://"))


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
