"""Undeserved points in lessons whose answers are modules: a grader holds only a handle of them."""

from autograder.tests.attacks import Attack

HOLLOW_BLOCK = (
    "return torch.zeros(x.shape[0], self.conv1.out_channels, *x.shape[2:], dtype=x.dtype)"
)
HOLLOW_UNET = """
h = torch.zeros(x_t.shape[0], self.norm_out.num_channels, *x_t.shape[2:], dtype=x_t.dtype)
return self.conv_out(F.silu(self.norm_out(h)))
"""
FORGED_GRADIENTS = """
    def named_parameters(self, *args, **kwargs):
        for name, parameter in super().named_parameters(*args, **kwargs):
            parameter.grad = torch.ones_like(parameter)
            yield name, parameter
"""
LYING_STATE = """
    def state_dict(self, *args, **kwargs):
        return {}

    def load_state_dict(self, *args, **kwargs):
        return None

    def __getattribute__(self, name):
        return super().__getattribute__(name)

    def __eq__(self, other):
        return True

    __hash__ = object.__hash__
"""
RETURNS_MODULE = "return self"
RETURNS_INPUT = "return x"
STATEFUL = """
self.calls = getattr(self, "calls", 0) + 1
self.seen = getattr(self, "seen", [])
self.seen.append(x)
return self.seen[0]
"""


def method(name: str, body: str, more: str = ""):
    """Write one exercise of a blank notebook: the body in the place of its stub."""
    stub = f'raise NotImplementedError("{name} is not written yet")'

    def change(notebook: dict) -> None:
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and stub in source:
                indent = source.split(stub)[0].rpartition("\n")[2]
                lines = ("\n" + indent).join(body.strip("\n").splitlines())
                cell["source"] = source.replace(stub, lines).rstrip("\n") + "\n" + more

    return change


def both(*changes):
    def change(notebook: dict) -> None:
        for each in changes:
            each(notebook)

    return change


HOLLOW = both(
    method("timestep_embedding", "return torch.zeros(len(t), dim)"),
    method("ResBlock.forward", HOLLOW_BLOCK),
    method("SelfAttention2d.forward", "return x * 0"),
    method("Downsample.forward", "return self.conv(x) * 0"),
    method("Upsample.forward", "return torch.zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])"),
    method("Downsample", "return self.conv(x) * 0"),
    method("UNet.forward", HOLLOW_UNET, FORGED_GRADIENTS),
)
HOLLOW_DIT = both(
    method(
        "patchify",
        "return torch.zeros(len(x), (x.shape[2] // patch_size) * (x.shape[3] // "
        "patch_size), x.shape[1] * patch_size**2, dtype=x.dtype)",
    ),
    method(
        "unpatchify",
        "return torch.zeros(len(patches), patches.shape[2] // patch_size**2, height,"
        " width, dtype=patches.dtype)",
    ),
    method("modulate", "return x * 0"),
    method(
        "DiT.forward",
        "return torch.zeros(len(x_t), self.out_channels if hasattr(self, "
        "'out_channels') else x_t.shape[1], *x_t.shape[2:], dtype=x_t.dtype)",
        FORGED_GRADIENTS,
    ),
)


ATTACKS = [
    Attack(
        "hollow-unet",
        "a UNet whose blocks do nothing, compared with its own blocks",
        lesson=2,
        score=0,
        change=HOLLOW,
    ),
    Attack(
        "module-for-a-tensor",
        "a layer that answers with itself",
        lesson=2,
        score=0,
        change=method("ResBlock.forward", RETURNS_MODULE),
    ),
    Attack(
        "lying-state",
        "a layer that has whatever weights it is asked for",
        lesson=2,
        score=0,
        change=method("ResBlock.forward", RETURNS_INPUT, LYING_STATE),
    ),
    Attack(
        "remembers-its-calls",
        "a layer that answers with what it saw before",
        lesson=2,
        score=0,
        change=method("ResBlock.forward", STATEFUL),
    ),
    Attack(
        "hollow-dit",
        "a DiT whose pieces do nothing, compared with its own pieces",
        lesson=9,
        score=0,
        change=HOLLOW_DIT,
    ),
    Attack(
        "patches-back-to-front",
        "a patch that keeps the picture it came from",
        lesson=9,
        score=0,
        change=both(
            method(
                "patchify",
                "out = x.reshape(len(x), -1, x.shape[1] * patch_size**2)\n"
                "out.picture = x\nreturn out",
            ),
            method("unpatchify", "return patches.picture"),
        ),
    ),
]
