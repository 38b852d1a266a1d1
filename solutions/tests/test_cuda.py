"""The same numbers on a GPU: beside diffusers and transformers, beside our own on the processor.

T2I_TEST_DEVICE=cpu runs the very same code without a GPU.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable

import pytest
import torch
from diffusers.models.attention import JointTransformerBlock
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from t2i import training
from t2i.clip import ImageEncoder
from t2i.engine.train_config import TrainConfig
from t2i.flow import rectified_flow_loss
from t2i.joint import JointAttentionBlock, JointDiT
from t2i.pretrained.clip_names import from_transformers
from t2i.pretrained.dit_files import joint_state_dict
from t2i.runs.clip_recipes import clip_recipe
from t2i.runs.flow_training import flow_draws
from t2i.runs.scene_recipes import scene_recipe
from t2i.speed.bench_clock import plain_float32
from t2i.speed.bench_pairs import PAIRS, build_pair
from t2i.training import Batches, TrainState, train
from t2i.unet import UNet
from t2i.world.scene_specs import draw_specs
from t2i.world.scenes import paint

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts
DEVICE = torch.device(os.environ.get("T2I_TEST_DEVICE", "cuda"))
pytestmark = pytest.mark.skipif(
    DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="no GPU that CUDA knows"
)
LARGEST = {torch.float32: 1e-4}  # how far apart two numbers may lie
RELATIVE = {torch.bfloat16: 2e-2}  # the same for the length of all differences together


@dataclasses.dataclass
class Case:
    """Two networks with the same weights, on the processor, and what both are given.

    call(model, *inputs) gives the tensors to compare; theirs takes their_call.
    """

    ours: nn.Module
    theirs: nn.Module
    inputs: tuple[Tensor, ...]
    call: Callable[..., tuple[Tensor, ...]]
    their_call: Callable[..., tuple[Tensor, ...]]


@pytest.fixture(autouse=True)
def no_tf32():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    plain_float32()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def of_the_bench(name: str) -> Case:
    pair = build_pair(name, "tiny", batch_size=3)

    def call(model: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (model(*inputs),)

    return Case(pair.ours, pair.theirs, pair.inputs, call, call)


def encoding_and_decoding() -> Case:
    pair = build_pair("vae", "tiny", batch_size=3)
    z = torch.randn(3, 4, 16, 16)

    def call(model: nn.Module, x_0: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        posterior = model.encode(x_0)
        return posterior.mean, posterior.logvar, model.decode(z)

    def their_call(model: nn.Module, x_0: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        posterior = model.encode(x_0).latent_dist
        return posterior.mean, posterior.logvar, model.decode(z).sample

    return Case(pair.ours, pair.theirs.model, (*pair.inputs, z), call, their_call)


def text_and_whole_text() -> Case:
    pair = build_pair("clip", "tiny", batch_size=3)

    def their_call(model: nn.Module, tokens: Tensor) -> tuple[Tensor, ...]:
        told = model(tokens)
        return told.last_hidden_state, told.pooler_output

    return Case(pair.ours.model, pair.theirs.model, pair.inputs, nn.Module.__call__, their_call)


def vision() -> Case:
    config = {"image_size": 32, "patch_size": 8, "hidden_size": 64, "num_hidden_layers": 3}
    config |= {"num_attention_heads": 4, "intermediate_size": 256}
    theirs = CLIPVisionModel(CLIPVisionConfig(**config)).eval()
    ours = ImageEncoder(32, 8, 64, 3, 4, 256).eval()
    ours.load_state_dict(from_transformers(theirs.state_dict()))

    def their_call(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        told = model(images)
        return told.last_hidden_state, told.pooler_output

    return Case(ours, theirs, (torch.randn(3, 3, 32, 32),), nn.Module.__call__, their_call)


def joint_block() -> Case:
    theirs = JointTransformerBlock(64, 4, 16, False, qk_norm="rms_norm").eval()
    ours = JointAttentionBlock(64, 4, qk_norm=True).eval()
    ours.load_state_dict(joint_state_dict(theirs.state_dict()))
    inputs = torch.randn(3, 20, 64), torch.randn(3, 7, 64), torch.randn(3, 64)

    def their_call(model: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        context, x = model(*inputs)
        return x, context

    return Case(ours, theirs, inputs, nn.Module.__call__, their_call)


CASES: dict[str, Callable[[], Case]] = {
    **{name: lambda name=name: of_the_bench(name) for name in PAIRS},
    "vae_halves": encoding_and_decoding,
    "clip_text": text_and_whole_text,
    "clip_vision": vision,
    "joint_block": joint_block,
}


def answers(
    model: nn.Module, call: Callable, inputs: tuple[Tensor, ...], device, dtype=torch.float32
) -> tuple[Tensor, ...]:
    """What a network says on the device in these numbers, brought to the processor."""
    given = [each.to(device, dtype if each.is_floating_point() else None) for each in inputs]
    with torch.no_grad():
        return tuple(each.float().cpu() for each in call(model.to(device, dtype), *given))


def assert_close(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], dtype) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert one.isfinite().all() and other.std() > 0.01, "zeros would agree with anything"
        if dtype in LARGEST:
            assert (one - other).abs().max() <= LARGEST[dtype]
        else:
            assert (one - other).norm() / other.norm() <= RELATIVE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", list(CASES))
def test_the_same_as_theirs(name, dtype):
    torch.manual_seed(0)
    case = CASES[name]()
    theirs = answers(case.theirs, case.their_call, case.inputs, DEVICE, dtype)
    assert_close(answers(case.ours, case.call, case.inputs, DEVICE, dtype), theirs, dtype)


@pytest.mark.parametrize("name", list(CASES))
def test_the_same_as_on_the_processor(name):
    torch.manual_seed(0)
    case = CASES[name]()
    expected = answers(case.ours, case.call, case.inputs, "cpu")
    assert_close(answers(case.ours, case.call, case.inputs, DEVICE), expected, torch.float32)


def small_unet() -> UNet:
    torch.manual_seed(0)
    return UNet(1, 1, (32, 64), 1, (False, True), 16, 16).to(DEVICE)


def loss_fn(model: nn.Module, x_0: Tensor) -> Tensor:
    t = torch.randint(1000, (len(x_0),), device=x_0.device)
    noise = torch.randn_like(x_0)
    return (model(x_0 + noise, t) - noise).square().mean()


@pytest.fixture(params=[False, True], ids=["as it is", "deterministic"])
def deterministic(request):
    """Whether torch is told to add in the same order every time, where a GPU would not."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = request.param
    torch.use_deterministic_algorithms(request.param, warn_only=True)
    yield request.param
    torch.backends.cudnn.deterministic = before
    torch.use_deterministic_algorithms(False)


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not torch.equal(value, other[name])]


@pytest.mark.filterwarnings("ignore:.*deterministic")
@pytest.mark.parametrize("muon_rate", [0.0, 0.02], ids=["adamw", "muon"])
def test_a_training_goes_on_at_the_same_bits(tmp_path, muon_rate, deterministic):
    images = torch.randn(40, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    config = TrainConfig(steps=8, save_every=3, muon_rate=muon_rate)

    def run(checkpoint=None, stop: int = 8) -> tuple[int, dict[str, Tensor]]:
        """The first step that was made, and the weights after `stop` of them, both copies."""
        batches, first = Batches(images, batch_size=8, seed=5), 0
        for state in train(small_unet(), loss_fn, batches, config, checkpoint, progress=False):
            first = first or state.step
            if state.step == stop:
                break
        slow = {f"slow.{name}": value for name, value in state.ema_model.state_dict().items()}
        return first, state.model.state_dict() | slow

    whole, path = run()[1], tmp_path / "run.safetensors"
    if not deterministic and differing(whole, run()[1]):
        pytest.skip("two whole runs differ here, too: this GPU adds in an order of its own")
    run(path, stop=5)
    torch.manual_seed(7)  # another process would stand elsewhere
    first, resumed = run(path)
    assert first == 4, "it must go on, not start anew"
    assert not differing(whole, resumed)
    assert next(iter(whole.values())).device.type == DEVICE.type


def small_joint() -> JointDiT:
    """A network in which every layer counts from the first step on.

    As it is built, the last layer and all gates are 0, and so is what the others learn at first:
    rounding decides then where they go, and no two ways of computing end at the same weights.
    """
    torch.manual_seed(0)
    kind = {"context_dim": 16, "sample_size": 8, "patch_size": 2, "dim": 32, "depth": 3}
    model = JointDiT(4, num_heads=2, **kind)
    for p in model.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return model.to(DEVICE)


def flow_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    z_0, context = batch
    _, t, noise = flow_draws(z_0)
    return rectified_flow_loss(lambda z_t, t: model(z_t, t, context), z_0, t, noise)


def learnt(config: TrainConfig, checkpoint=None, stop: int | None = None) -> TrainState:
    """Where small_joint stands after `stop` steps of a training."""
    made = torch.Generator().manual_seed(1)
    data = torch.randn(64, 4, 8, 8, generator=made), torch.randn(64, 5, 16, generator=made)
    batches = Batches(*data, batch_size=16, seed=5)
    for state in train(small_joint(), flow_loss, batches, config, checkpoint, progress=False):
        if state.step == stop:
            break
    return state


def all_weights(model: nn.Module) -> Tensor:
    return torch.cat([value.float().flatten() for value in model.state_dict().values()])


@pytest.mark.parametrize("on_gpu", ["recorded", "compiled"])
def test_a_recorded_step_learns_what_a_plain_one_learns(tmp_path, on_gpu, monkeypatch):
    """The same batches, noise, rates and slow copy; after a break, too.

    In float32, and without Muon: its rotations make the least direction of an update as large as
    the greatest, and what rounding has put there with it.
    """
    monkeypatch.setattr(training, "fastest_precision", lambda device: contextlib.nullcontext())
    config = TrainConfig(steps=16, save_every=8, learning_rate=1e-3, ema_horizon=0.5)
    fast, path = dataclasses.replace(config, on_gpu=on_gpu), tmp_path / "run.safetensors"
    start, expected, whole = all_weights(small_joint()), learnt(config), learnt(fast)
    learnt(fast, path, stop=10)
    for found in (whole, learnt(fast, path)):
        torch.testing.assert_close(found.losses, expected.losses, rtol=2e-3, atol=0)
        for copy in ("model", "ema_model"):
            wanted, theirs = (all_weights(getattr(each, copy)) for each in (expected, found))
            assert (theirs - wanted).norm() <= 0.05 * (wanted - start).norm(), copy


@pytest.mark.parametrize("on_gpu", ["recorded", "compiled"])
def test_a_recorded_step_learns_as_well_with_muon_and_bfloat16(on_gpu):
    """Rounding leads each to weights of its own here, but to no worse ones."""
    config = TrainConfig(steps=60, learning_rate=1e-3, muon_rate=0.01)
    plain, fast = (
        torch.tensor(learnt(each).losses)
        for each in (config, dataclasses.replace(config, on_gpu=on_gpu))
    )
    assert plain[-10:].mean() < 0.9 * plain[:10].mean(), "there is something to learn"
    for steps in (slice(0, 10), slice(25, 35), slice(-10, None)):
        torch.testing.assert_close(fast[steps].mean(), plain[steps].mean(), rtol=0.02, atol=0)


@pytest.mark.parametrize("looks", [False, True])
def test_a_step_is_recorded_unless_it_looks_at_values(looks, monkeypatch):
    made, kind = [], training.RecordedStep
    monkeypatch.setattr(
        training, "RecordedStep", lambda update: made.append(kind(update)) or made[-1]
    )

    def loss_fn(model, batch):
        loss = flow_loss(model, batch)
        return loss if not looks or loss > 0 else -loss

    data = torch.randn(64, 4, 8, 8), torch.randn(64, 5, 16)
    config = TrainConfig(steps=6, learning_rate=1e-3, muon_rate=0.01, on_gpu="recorded")
    found = looks and DEVICE.type == "cuda"
    told = pytest.warns(UserWarning, match="job by job") if found else contextlib.nullcontext()
    with told:
        *_, state = train(
            small_joint(), loss_fn, Batches(*data, batch_size=16), config, progress=False
        )
    assert state.step == 6
    if DEVICE.type == "cuda":
        assert (made[0].graph is None) == looks


def test_scenes_are_painted_on_a_gpu_as_on_the_processor():
    specs = draw_specs(range(200), world="many")
    painted = paint(specs, 64, device=DEVICE)
    assert painted.device.type == DEVICE.type
    apart = (painted.cpu() - paint(specs, 64)).abs()
    assert apart.mean() < 1e-5 and (apart > 0.01).sum() < 10  # of millions


@pytest.mark.parametrize("plan", [scene_recipe("smoke"), clip_recipe("smoke")])
def test_batches_are_painted_where_they_are_wanted(plan):
    (here, *told), (there, *again) = next(plan.batches()), next(plan.batches().on(DEVICE))
    assert there.device.type == DEVICE.type
    assert (there.cpu() - here).abs().mean() < 1e-5
    assert all(torch.equal(mine, other) for mine, other in zip(told, again, strict=True))
