"""Work that ends after so many seconds, whether it is done or not."""

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """End with a TimeoutError what takes longer, where the system has such alarms."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_) -> None:
        raise TimeoutError(f"took longer than the {seconds:.0f} seconds that it had")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
