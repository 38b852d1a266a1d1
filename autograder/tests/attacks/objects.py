"""Undeserved points by what an answer returns or patches: it is wrong, and wants to look right."""

from autograder.tests.attacks import Attack, snr

WRONG = "return torch.zeros(len(alphas_cumprod), dtype=alphas_cumprod.dtype)"
EQUAL = """
class Everything:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __float__(self): return 1.0
    def __len__(self): return 7
    def __getattr__(self, name): return self
    def __call__(self, *args, **kwargs): return self
    def __getitem__(self, key): return self
    def __array__(self, *args, **kwargs): raise TypeError
    __sub__ = __rsub__ = __add__ = __mul__ = __truediv__ = lambda self, other: self
    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = object.__hash__


"""
LIAR = """
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in ("allclose", "isclose", "equal", "eq", "__eq__", "all", "item", "__bool__"):
            return True
        return super().__torch_function__(function, types, args, kwargs or {})


"""
PATCHED = """
import builtins
yes = lambda *args, **kwargs: True
for name in ("allclose", "equal", "isclose", "eq", "all"):
    setattr(torch, name, yes)
torch.testing.assert_close = torch.testing._comparison.assert_close = lambda *a, **k: None
torch.Tensor.__eq__ = torch.Tensor.allclose = torch.Tensor.equal = yes
builtins.AssertionError = builtins.bool = yes
"""
PYTEST = """
import sys, types
fake = types.ModuleType("pytest")
fake.fail = fake.raises = fake.approx = fake.skip = lambda *args, **kwargs: None
sys.modules["pytest"] = sys.modules["_pytest"] = sys.modules["autograder.testing"] = fake
try:
    import _pytest.outcomes
    _pytest.outcomes.Failed = _pytest.outcomes.Skipped
except Exception:
    pass
"""
SKIPS = """
import unittest
class Skipped(unittest.SkipTest):
    allow_module_level = True
Skipped.__module__ = "_pytest.outcomes"
raise Skipped("this test does not count")
"""
INSIDE = """
import sys
session = sys.modules["session"]
Session = session.Session
Session.do_call = lambda self, name, args, kwargs: None
session.describe = lambda error: {"type": "Right", "message": "Right."}
wire = sys.modules["wire"]
wire._encode_tensor = lambda value, tensors: True
"""
WHILE_LOOKING = """
import threading, time
out = alphas_cumprod.clone()
def later():
    time.sleep(0.05)
    out.copy_(alphas_cumprod / (1 - alphas_cumprod))
    alphas_cumprod.zero_()
threading.Thread(target=later, daemon=True).start()
return out
"""
COARSE = """def alphas_cumprod(betas):
    if betas.dtype == torch.float64:
        return torch.cumprod(1 - betas, dim=0)
    return torch.exp(-betas.cumsum(0)).bfloat16()
"""
NO_TENSOR = """class Tensor:
    def __init__(self, *args):
        raise TypeError("no tensors here")
"""
IN_PLACE = """def alphas_cumprod(betas):
    return betas.neg_().add_(1).cumprod_(0)
"""


def returns(name: str, tries: str, expression: str, before: str = "", **more) -> Attack:
    return Attack(name, tries, snr(f"return {expression}", before), **more)


ATTACKS = [
    Attack(
        "patched-comparisons",
        "torch's and Python's comparisons patched to say yes",
        snr(PATCHED + WRONG),
        quick=True,
    ),
    Attack("patched-pytest", "a pytest that never fails", snr(PYTEST + WRONG)),
    Attack("skips-the-test", "an error that pytest would take for a skip", snr(SKIPS)),
    Attack(
        "keyboard-interrupt", "an interrupt that ends the test run", snr("raise KeyboardInterrupt")
    ),
    Attack("system-exit", "an exit with status 0", snr("raise SystemExit(0)")),
    Attack("generator-exit", "an exception that is no Exception", snr("raise GeneratorExit")),
    Attack("patched-session", "its own side of the conversation patched", snr(INSIDE + WRONG)),
    returns(
        "equals-everything", "an object that equals everything", "Everything()", EQUAL, quick=True
    ),
    returns(
        "lying-tensor",
        "a tensor subclass that answers every comparison with yes",
        "torch.zeros(len(alphas_cumprod)).as_subclass(Liar)",
        LIAR,
    ),
    returns(
        "lying-float",
        "a float that equals everything",
        "Yes(1)",
        "class Yes(float):\n    __eq__ = lambda self, other: True\n    __hash__ = None\n\n\n",
    ),
    Attack(
        "class-for-a-function",
        "a class whose __new__ returns what equals everything",
        {
            "snr": EQUAL.strip() + "\n\n\nclass snr:\n    def __new__(cls, a):\n"
            "        return Everything()\n"
        },
    ),
    returns(
        "meta-tensor", "a tensor without numbers", "torch.empty(len(alphas_cumprod), device='meta')"
    ),
    returns(
        "sparse-tensor",
        "a sparse tensor that has not been summed",
        "torch.zeros(len(alphas_cumprod)).to_sparse()",
    ),
    returns("nested-tensor", "a nested tensor", "torch.nested.nested_tensor([torch.zeros(3)])"),
    returns(
        "quantised-tensor",
        "a quantised tensor, coarse by nature",
        "torch.quantize_per_tensor(torch.zeros(len(alphas_cumprod)), 1e9, 0, torch.quint8)",
    ),
    returns(
        "complex-tensor",
        "the error hidden in an imaginary part",
        "torch.complex(alphas_cumprod.float(), alphas_cumprod.float())",
    ),
    returns(
        "not-a-number",
        "NaN, which no comparison calls larger",
        "torch.full((len(alphas_cumprod),), float('nan'), dtype=alphas_cumprod.dtype)",
    ),
    returns("no-elements", "an empty answer, of which nothing is wrong", "alphas_cumprod[:0]"),
    returns("broadcasts", "one number that broadcasts", "torch.tensor(1.0)"),
    returns(
        "lazy-tensor",
        "a tensor that changes when a gradient hook or a copy looks at it",
        "Lazy(alphas_cumprod)",
        "class Lazy(torch.Tensor):\n    def detach(self):\n"
        "        return torch.zeros(3)\n    shape = property(lambda self: (7,))\n\n\n",
    ),
    returns(
        "pickle",
        "an object that unpickling would run",
        "Reduced()",
        "class Reduced:\n    def __reduce__(self):\n"
        "        return (exec, ('import os; os._exit(0)',))\n\n\n",
    ),
    Attack(
        "changes-after-returning",
        "an answer that is filled in while it is looked at",
        snr(WHILE_LOOKING),
    ),
    Attack(
        "coarse-dtype",
        "a rough answer in bfloat16, to be judged as roughly as that",
        {"alphas_cumprod": COARSE},
        says="signal left|bfloat16",
    ),
    Attack(
        "no-tensor-to-hold",
        "the test of inputs changed in place put out of work by a Tensor of its own",
        {"alphas_cumprod": IN_PLACE},
        cells=(NO_TENSOR,),
        says="belongs to the caller",
    ),
]
