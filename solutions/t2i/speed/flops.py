"""How much work a network is: the multiplications and additions of one call, and its seconds.

    count_flops(lambda: unet(x_t, t))
    time_in_turn({"pixels": first_call, "latents": second_call}, repeats=7)

Matrices and convolutions count, as everywhere where utilisation is reported. Attention is
multiplied out for it: torch's counter does not know the fused one of a processor.
"""

import time
from collections.abc import Callable, Mapping

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(call: Callable[[], object]) -> int:
    """The operations of one call, and of the way back if it goes there.

    Returns:
        2 for each product that is added: each multiplication and each addition is one.
    """
    return flops_by_module(call).get("Global", 0)


def flops_by_module(call: Callable[[], object]) -> dict[str, int]:
    """The same for each module by its name, with all that is inside it; "Global" is the whole."""
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        call()
    return {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}


def time_in_turn(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median seconds of each call, the calls made in turn so that all meet the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
