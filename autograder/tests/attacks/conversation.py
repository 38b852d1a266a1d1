"""Undeserved points, and damage, by speaking for itself on the wire to the grader."""

from autograder.tests.attacks import Attack, snr

SOCKET = """
import os, socket, stat, struct, json, sys, time
def sockets():
    for number in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                yield number
        except OSError:
            pass
def say(data):
    for number in sockets():
        try:
            os.write(number, data)
        except OSError:
            pass
def message(header, payload=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<II", len(text), len(payload) if size is None else size) + text + payload


"""


def speaks(name: str, tries: str, body: str, **more) -> Attack:
    """An answer that writes to the wire, then returns something wrong."""
    body = f"say({body})\nreturn alphas_cumprod" if "\n" not in body else body
    return Attack(name, tries, snr(body, SOCKET.lstrip("\n")), **more)


TENSOR = """
def tensor(dtype, shape, data):
    head = json.dumps({"0": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}})
    head = head.encode() + b" " * (-len(head) % 8)
    payload = struct.pack("<Q", len(head)) + head + data
    return message({"$dict": [["value", {"$tensor": "0"}]]}, payload)
"""
IN_ADVANCE = """
say(message({"$dict": [["value", True]]}) * 50)
return alphas_cumprod
"""
LATE = """
import threading
def talk():
    while True:
        say(message({"$dict": [["value", True]]}))
try:
    threading.Thread(target=talk, daemon=True).start()
except RuntimeError:
    pass
return alphas_cumprod
"""
SLOW = """
say(struct.pack("<II", 3_000_000, 200_000_000))
while True:
    say(b" ")
    time.sleep(0.2)
"""
FLOOD = """
say(struct.pack("<II", 100, 250_000_000) + b" " * 100)
while True:
    say(b"E" * 65536)
"""
HALF_A_FRAME = """
say(struct.pack("<II", 100, 250_000_000) + b" " * 100)
while True:
    say(b"E\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00" * 8000)
    time.sleep(0.001)
"""
DTYPES = (
    TENSOR
    + """
for dtype in ("F8_E4M3", "BF16", "C64", "F4", "U64"):
    say(tensor(dtype, [7], b"\\xff" * 7))
return alphas_cumprod
"""
)
BOOLS = (
    TENSOR
    + """
say(tensor("BOOL", [7], b"\\x02" * 7))
return alphas_cumprod
"""
)
HANDLES = """
for content in ({"$handle": -1}, {"$callback": 0}, {"$handle": 10**30}, {"$dtype": "hub"},
                {"$dtype": "__dict__"}, {"$foreign": "x" * 10**6}, {"$float": "1_000"},
                {"$tensor": "9"}, {"$new": 1}, {"a": 1, "b": 2}, [[[]]], "text"):
    say(message({"$dict": [["value", content]]}))
return alphas_cumprod
"""
CALLBACKS = """
for number in (-1, 0, 10**9, "0", None, [1], True):
    say(message({"$dict": [["callback", number], ["args", []], ["kwargs", {"$dict": []}]]}))
return alphas_cumprod
"""
WORDS = """
error = {"type": "Skipped", "message": "m", "label": ["x"], "line": 10**50, "text": {"a": 1}}
say(message({"$dict": [["error", {"$dict": [list(item) for item in error.items()
    if not isinstance(item[1], dict)]}]]}))
return alphas_cumprod
"""
AT_LOADING = """
def early(function):
    say(message({"$dict": [["value", 7]]}))
    say(message({"$dict": [["value", [7, None]]]}))
    return function


@early
"""
CLOSES = """
for number in sockets():
    os.close(number)
time.sleep(3600)
"""
TURNS_ROUND = """
for number in sockets():
    os.dup2(os.open("/dev/zero", os.O_RDWR), number)
return alphas_cumprod
"""


ATTACKS = [
    speaks(
        "answers-in-advance", "answers to questions that were not asked yet", IN_ADVANCE, quick=True
    ),
    speaks("answers-without-end", "answers after its own time, to the next test", LATE),
    speaks("answers-late", "an answer that trickles in, and goes on after the deadline", SLOW),
    speaks("floods", "an answer that the grader must hold in memory", FLOOD, quick=False),
    speaks(
        "half-a-frame",
        "a frame cut by the deadline, so that the next test reads its rest",
        HALF_A_FRAME,
    ),
    speaks("huge-header", "a header of 4 GB", 'struct.pack("<II", 2**32 - 1, 0)', says="more data"),
    speaks(
        "huge-payload",
        "a payload of 4 GB",
        'struct.pack("<II", 2, 2**32 - 1) + b"{}"',
        says="more data",
    ),
    speaks("no-json", "bytes that are no JSON", 'message(b"\\xff" * 100)'),
    speaks(
        "json-in-depth", "JSON nested ten thousand deep", 'message(b"[" * 100_000 + b"]" * 100_000)'
    ),
    speaks(
        "json-numbers",
        "numbers that only JSON allows",
        'message(b\'{"value": NaN, "a": -Infinity}\')',
    ),
    speaks(
        "huge-number",
        "a number of a million digits",
        'message(b\'{"$float": \' + b"9" * 10**6 + b"}")',
    ),
    speaks("wrong-dtypes", "tensors of dtypes that no test expects", DTYPES),
    speaks("bools-of-two", "truth values that are neither", BOOLS),
    speaks("wrong-references", "objects, types and numbers that were never given out", HANDLES),
    speaks(
        "wrong-callbacks", "calls of the grader's functions that were never given out", CALLBACKS
    ),
    speaks("forged-error", "an error whose parts are of the wrong type", WORDS),
    Attack(
        "answers-at-loading",
        "answers in the place of the list of what could not be loaded",
        snr("return alphas_cumprod", SOCKET.lstrip("\n") + AT_LOADING.lstrip("\n")),
        score=0,  # its own right answer comes one question too late
    ),
    speaks("hangs-up", "a conversation that ends without an end", CLOSES),
    speaks("turns-round", "the wire replaced by an endless file", TURNS_ROUND),
]
