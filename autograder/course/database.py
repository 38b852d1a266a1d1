"""The database of a gradebook: whether it answers, and what it says when it does not."""

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError


class DatabaseError(Exception):
    """The gradebook's database cannot be used; the message says why."""


def expect_server(db_url: str) -> None:
    """Ask a gradebook's database for a sign of life, before a course is made on it.

    Args:
        db_url: as SQLAlchemy writes it.

    Raises:
        DatabaseError: the URL cannot be read, its driver is missing, or nobody answers.
    """
    try:
        engine = create_engine(db_url)
        with engine.connect():
            engine.dispose()
    except ModuleNotFoundError as error:
        raise DatabaseError(f"{error}, which the gradebook's server needs: install it") from None
    except SQLAlchemyError as error:
        raise DatabaseError(in_words(error)) from None


def in_words(error: SQLAlchemyError) -> str:
    """What a database said, in one line, without the statement that it was asked."""
    reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return f"the gradebook cannot be used: {reason}"
