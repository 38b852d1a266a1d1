"""A real PostgreSQL server for a test, on a Unix socket in a folder that is gone afterwards."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")


def missing() -> str | None:
    """Why there can be no server here; None where there can be."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed (pip install 'psycopg[binary]')"
    if _programs() is None:
        return "PostgreSQL is not installed (apt install postgresql)"
    if os.name != "posix":
        return "PostgreSQL is started on a Unix socket only"
    return None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Start a server, and stop it at the end.

    Yields:
        the URL of an empty database, as SQLAlchemy writes it.
    """
    programs, account = _programs(), _account()
    folder = Path(tempfile.mkdtemp(prefix="t2i-pg-", dir="/tmp"))  # a socket's path must be short
    try:
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        data, socket = folder / "data", folder / "socket"
        _run(account, programs / "initdb", "-D", data, "-U", "t2i", "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync")  # fmt: skip
        _run(account, "mkdir", socket)
        options = f"-c listen_addresses='' -c unix_socket_directories='{socket}' -c fsync=off"
        control = [programs / "pg_ctl", "-D", data, "-w", "-t", "120"]
        _run(account, *control, "-o", options, "-l", folder / "log", "start")
        try:
            _run(account, programs / "createdb", "-h", socket, "-U", "t2i", "gradebook")
            yield f"postgresql+psycopg://t2i@/gradebook?host={socket}"
        finally:
            _run(account, *control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl: Debian keeps them away from the PATH."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(DEBIAN.glob("*/bin"), reverse=True)
    for place in places:
        if all((place / name).exists() for name in ("initdb", "pg_ctl", "createdb")):
            return place
    return None


def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as: initdb refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("root needs an account named postgres or nobody to start a server")


def _run(account: pwd.struct_passwd | None, *command: object) -> None:
    who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    done = subprocess.run(
        [str(each) for each in command],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # no pipe: the server would keep it open
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        timeout=300,
        **who,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{Path(str(command[0])).name} failed with status {done.returncode}")
