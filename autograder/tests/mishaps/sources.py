"""Mishaps in the code: magics, shell lines, helpers, seeds, input, typing errors."""

from autograder.tests.mishaps import ANSWERS, POINTS, RIGHT, Mishap, cell_of, put

WITHOUT_SNR = RIGHT - POINTS["snr"]


def answer(source: str, name: str = "snr"):
    """Another answer to one exercise."""

    def change(notebook: dict) -> None:
        cell_of(notebook, name)["source"] = source

    return change


def around(before: str = "", after: str = "", name: str = "snr"):
    """Lines before and after the answer, in its own cell."""
    return answer(f"{before}{ANSWERS[name]}{after}", name)


def added(*sources: str, before: str = "linear_betas"):
    """Cells put before an exercise."""

    def change(notebook: dict) -> None:
        for source in sources:
            put(notebook, source, before=before)

    return change


def helper_elsewhere(notebook: dict) -> None:
    put(notebook, "import numpy as np\nFLOOR = 1e-12", before="linear_betas")
    put(notebook, "def ratio(a, b):\n    return a / np.maximum(b, FLOOR)", after="check-snr")
    source = "def snr(alphas_cumprod):\n    return ratio(alphas_cumprod, 1 - alphas_cumprod)\n"
    cell_of(notebook, "snr")["source"] = source


def tabs(notebook: dict) -> None:
    for name in ANSWERS:
        cell = cell_of(notebook, name)
        cell["source"] = cell["source"].replace("    ", "\t")


def all_in_one(notebook: dict) -> None:
    """All answers in one long cell at the end, with everything else that was tried."""
    for name in ANSWERS:
        notebook["cells"].remove(cell_of(notebook, name))
    tried = "x = linear_betas(10)\nprint(x)\nassert len(x) == 10\n\n"
    put(notebook, tried.join(ANSWERS.values()), after="check-snr")


SPEAKS = """def snr(alphas_cumprod):
    import sys, warnings
    warnings.warn("division")
    print("called", file=sys.stderr)
    print("called" * 1000)
    return alphas_cumprod / (1 - alphas_cumprod)
"""
ASKS = """def snr(alphas_cumprod):
    if input("Go on? ") == "y":
        return alphas_cumprod / (1 - alphas_cumprod)
"""
SEEDED = """def snr(alphas_cumprod):
    torch.manual_seed(0)
    return alphas_cumprod / (1 - alphas_cumprod)
"""
STUB_LEFT_ABOVE = """def snr(alphas_cumprod):
    raise NotImplementedError("snr is not written yet")
    return alphas_cumprod / (1 - alphas_cumprod)
"""
STUB_LEFT_BELOW = """def snr(alphas_cumprod):
    return alphas_cumprod / (1 - alphas_cumprod)
    raise NotImplementedError("snr is not written yet")
"""
ODD_SPACES = """def snr(alphas_cumprod):
    # pasted from a page:\u2028of the web\x0c\x85 with odd line ends
    "and\u2029in a text"
    return alphas_cumprod / (1 - alphas_cumprod)
"""

MISHAPS = [
    Mishap("magics", "magics and shell lines between", added(
        "%matplotlib inline\n%load_ext autoreload\n%autoreload 2", "!nvidia-smi", "%%bash\nls -l",
        "%%html\n<b>hello</b>", "%%writefile notes.txt\nthis is no Python ("))
    ,
    Mishap("timed-cell", "a cell magic above an answer", around("%%time\n")),
    Mishap("captured-cell", "another, with arguments", around("%%capture output --no-stderr\n\n")),
    Mishap("shell-in-answer", "shell lines beside an answer", around("!pip -V\n", "!ls\n")),
    Mishap(
        "shell-into-a-name", "what a shell line says, kept in a name",
        around("there = !ls\n", "seconds = %timeit -o snr(torch.ones(3))\n"), quick=True,
    ),
    Mishap("help-in-answer", "asked for help beside an answer", around("?torch.ones\n", "snr?\n")),
    Mishap("helper-elsewhere", "helpers in cells before and after", helper_elsewhere),
    Mishap("star-import", "everything imported", added("from math import *\nfrom torch import *")),
    Mishap("broken-neighbour", "a cell that is no Python", added("def half(", "x = = 3", "    y")),
    Mishap("top-level-await", "an await outside of any function", added("await asyncio.sleep(0)")),
    Mishap("input-beside", "a question in another cell", added('name = input("Your name? ")')),
    Mishap("stops", "a cell that ends the program", added("exit()", "raise SystemExit", "quit()")),
    Mishap("endless-beside", "a cell that never ends", added("while True:\n    pass")),
    Mishap("downloads-beside", "a cell that needs the network", added(
        "import urllib.request\nurllib.request.urlopen('http://example.com')")),
    Mishap("seeds", "seeds set everywhere", added(
        "torch.manual_seed(0)\nimport random\nrandom.seed(1)",
        "torch.use_deterministic_algorithms(True)")),
    Mishap("seed-in-answer", "a seed set inside an answer", answer(SEEDED)),
    Mishap("default-dtype", "another default set in a cell", added(
        "torch.set_default_dtype(torch.float64)\ntorch.set_default_device('cuda')")),
    Mishap("speaks", "warnings and much text while it runs", answer(SPEAKS)),
    Mishap("asks", "an answer that asks", answer(ASKS), score=WITHOUT_SNR),
    Mishap("tried-below", "tried out below the answer", around(
        after="\nprint(snr(torch.ones(3)))\nimport matplotlib.pyplot as plt\nplt.show()\n")),
    Mishap("checked-below", "an assertion of one's own that fails", around(
        after="\nassert snr(torch.ones(1)) == 0\n")),
    Mishap("hinted", "types that nobody imported", answer(
        "def snr(alphas_cumprod: 'FloatTensor[T]') -> 'np.ndarray':\n"
        "    return alphas_cumprod / (1 - alphas_cumprod)\n")),
    Mishap("stub-left-above", "the stub's line left above the answer", answer(STUB_LEFT_ABOVE),
           score=WITHOUT_SNR, says="[Nn]ot (yet )?written|NotImplementedError"),
    Mishap("stub-left-below", "the stub's line left below the answer", answer(STUB_LEFT_BELOW)),
    Mishap("wrong-name", "a definition renamed", answer(ANSWERS["snr"].replace("snr", "my_snr")),
           score=WITHOUT_SNR, says="Nothing called snr is defined"),
    Mishap("tabs", "tabs in place of spaces", tabs),
    Mishap("tabs-and-spaces", "tabs and spaces mixed", answer(
        "def snr(alphas_cumprod):\n    a = alphas_cumprod\n\treturn a / (1 - a)\n"),
        score=WITHOUT_SNR, says="Python cannot read the cell"),
    Mishap("no-break-spaces", "pasted from a page, with its spaces", answer(
        ANSWERS["snr"].replace(" / ", "\u00a0/\u00a0")),
        score=WITHOUT_SNR, says="Python cannot read the cell"),
    Mishap("curly-quotes", "pasted from a word processor", around("“The answer.”\n"),
           score=WITHOUT_SNR, says="Python cannot read the cell"),
    Mishap("odd-line-ends", "signs that some programs take for line ends", answer(ODD_SPACES)),
    Mishap("unclosed", "a bracket forgotten", answer(ANSWERS["snr"].replace(")\n", "\n", 2)),
           score=WITHOUT_SNR, says="Python cannot read the cell"),
    Mishap("all-in-one", "all answers in one cell at the end", all_in_one),
    Mishap("decorated", "a decorator of torch's", around("@torch.no_grad()\n")),
    Mishap("written-twice", "written anew below, in the same cell", around(
        "def snr(a):\n    return a\n\n\n")),
    Mishap("named-anew", "given its name by an assignment", answer(
        "def mine(a):\n    return a / (1 - a)\n\n\nsnr = mine\n")),
    Mishap("a-lambda", "written as a lambda", answer("snr = lambda a: a / (1 - a)\n")),
]  # fmt: skip
