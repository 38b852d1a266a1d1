"""Guidance against closed forms and diffusers, and the recipes and runs of lesson 5."""

import json

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from torch import nn

from t2i.data import data_source
from t2i.diffusion import predict_x_0
from t2i.files.places import DATA
from t2i.files.results import share_gap, wilson
from t2i.guidance import (
    ClassUNet,
    LabelEmbedding,
    drop_condition,
    guided_prediction,
    rescale_guidance,
    sample_guided,
)
from t2i.mixture import Mixture
from t2i.runs.class_recipes import (
    WEIGHTS,
    AsPicture,
    Told,
    class_loss,
    class_recipe,
    load_class_unet,
)
from t2i.runs.class_runs import evaluate, measure, reference, spread, train_recipe
from t2i.samplers import convert_prediction, spaced_timesteps
from t2i.schedules import alphas_cumprod, cosine_betas, gather

AC = alphas_cumprod(cosine_betas(100)).double()
REAL_MNIST = data_source().startswith("MNIST, 60,000")


# --- labels, and dropping them


def test_every_class_and_the_null_class_learn_a_vector():
    table = LabelEmbedding(3, 5)
    label = torch.tensor([2, 3, 0, 3])
    vectors = table(label)
    assert vectors.shape == (4, 5) and torch.equal(vectors[1], vectors[3])
    assert len({tuple(row.tolist()) for row in table(torch.arange(4))}) == 4
    vectors.sum().backward()
    assert table.table.weight.grad[:, 0].tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_outside_is_named(label):
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\]"):
        LabelEmbedding(3, 5)(torch.tensor([0, label]))
    with pytest.raises(ValueError, match="label must be whole numbers"):
        LabelEmbedding(3, 5)(torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_drop_condition_drops_the_share(p):
    label = torch.arange(8000) % 10
    kept = label.clone()
    dropped = drop_condition(label, 10, p, torch.Generator().manual_seed(0))
    assert torch.equal(label, kept) and dropped.dtype == torch.int64
    gone = dropped == 10
    assert torch.equal(dropped[~gone], label[~gone])
    assert abs(gone.double().mean().item() - p) < 0.02


def test_drop_condition_drops_whole_contexts_and_null_can_learn():
    context, null = torch.randn(300, 4, 6), torch.randn(4, 6, requires_grad=True)
    dropped = drop_condition(context, null, 0.4, torch.Generator().manual_seed(1))
    is_null = (dropped == null).all(dim=(1, 2))
    is_own = (dropped == context).all(dim=(1, 2))
    assert (is_null ^ is_own).all() and 80 < is_null.sum() < 160
    dropped.sum().backward()
    torch.testing.assert_close(null.grad, torch.full((4, 6), float(is_null.sum())))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16])
def test_a_null_that_is_a_number_is_a_tensor_of_it(dtype, monkeypatch):
    """It is made where the condition lies: a recorded step may copy nothing from elsewhere."""
    condition = torch.arange(6).to(dtype).reshape(2, 3)
    wanted = drop_condition(condition, torch.full((3,), 7.0), 1.0)
    monkeypatch.setattr(torch, "as_tensor", None)
    monkeypatch.setattr(torch, "tensor", None)
    found = drop_condition(condition, 7, 1.0)
    assert found.dtype == wanted.dtype == dtype and found.equal(wanted) and (found == 7).all()


def test_drop_condition_is_repeatable():
    label = torch.zeros(50).long()
    first, again, other = (
        drop_condition(label, 1, 0.5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_drop_condition_bad_input():
    with pytest.raises(ValueError, match=r"cond_drop_prob must lie in \[0, 1\], got 1.5"):
        drop_condition(torch.zeros(2).long(), 1, 1.5)
    with pytest.raises(ValueError, match="cond_drop_prob"):
        drop_condition(torch.zeros(2).long(), 1, float("nan"))
    with pytest.raises(ValueError, match=r"null \(3,\) must be a number or fit .* \(4, 3\)"):
        drop_condition(torch.zeros(2, 4, 3), torch.zeros(3), 0.5)


def test_class_unet_adds_the_labels_vector():
    model = ClassUNet(lambda x, t, cond: (x, t, cond), num_classes=3, dim=4)
    x_t, t, label = torch.randn(2, 1, 3, 3), torch.tensor([4, 5]), torch.tensor([2, 3])
    got = model(x_t, t, label)
    assert got[0] is x_t and got[1] is t
    assert torch.equal(got[2], model.label_embedding(label)) and model.null == 3


# --- guidance in closed form


def world() -> Mixture:
    return Mixture(torch.tensor([[0.9, 0.1], [-0.5, 0.8], [-0.2, -0.7]]).double(), 0.4, AC)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0, 7.5])
def test_guided_field_is_the_gradient_of_the_sharpened_density(scale):
    """ε of p(x)^(1-s) · p(x|c)^s at the noise level of t, by autograd of the log densities."""
    torch.manual_seed(0)
    mixture, t = world(), torch.tensor([3, 20, 50, 80, 97])
    x_t, label = torch.randn(5, 2).double().requires_grad_(), torch.tensor([0, 1, 2, 1, 0])
    bar = AC[t][:, None]
    width = (bar * mixture.std**2 + 1 - bar).sqrt()[:, None]
    noisy = torch.distributions.Normal(bar.sqrt()[:, None] * mixture.centres, width)
    log_each = noisy.log_prob(x_t[:, None]).sum(dim=2)  # (B, classes)
    log_all = log_each.logsumexp(dim=1) - torch.tensor(3.0).log()
    log_own = log_each[torch.arange(5), label]
    sharpened = (1 - scale) * log_all + scale * log_own
    expected = -(1 - bar).sqrt() * torch.autograd.grad(sharpened.sum(), x_t)[0]
    actual = guided_prediction(mixture, x_t.detach(), t, label, 3, scale)
    torch.testing.assert_close(actual, expected)


def test_guidance_takes_one_call_and_at_scale_1_half_of_it():
    seen = []

    def model(x_t, t, condition):
        seen.append((len(x_t), t.tolist(), condition.tolist()))
        return x_t * condition.reshape(-1, 1, 1, 1)

    x_t, t, label = torch.randn(2, 1, 3, 3), torch.tensor([7, 8]), torch.tensor([1, 2])
    guided_prediction(model, x_t, t, label, 3, 2.0)
    guided_prediction(model, x_t, t, label, 3, 1.0)
    guided_prediction(model, x_t, t, label, 3, torch.ones(2))
    assert seen[0] == (4, [7, 8, 7, 8], [3, 3, 1, 2])
    assert seen[1:] == [(2, [7, 8], [1, 2])] * 2


def test_each_sample_may_have_its_own_scale():
    x_t, t, label = torch.randn(3, 2).double(), torch.tensor([9, 50, 90]), torch.tensor([0, 1, 2])
    scales = torch.tensor([0.0, 1.0, 4.0])
    together = guided_prediction(world(), x_t, t, label, 3, scales)
    for i, scale in enumerate(scales.tolist()):
        one = slice(i, i + 1)
        alone = guided_prediction(world(), x_t[one], t[one], label[one], 3, scale)
        torch.testing.assert_close(together[one], alone)


def test_words_are_guided_like_labels():
    context, null = torch.randn(3, 5, 4), torch.randn(5, 4)
    x_t, t = torch.randn(3, 1, 2, 2), torch.tensor([1, 2, 3])

    def model(x_t, t, context):
        return x_t * context.sum(dim=(1, 2)).reshape(-1, 1, 1, 1)

    uncond, cond = model(x_t, t, null.expand(3, 5, 4)), model(x_t, t, context)
    torch.testing.assert_close(
        guided_prediction(model, x_t, t, context, null, 2.5), uncond + 2.5 * (cond - uncond)
    )
    torch.testing.assert_close(
        guided_prediction(model, x_t, t, context, null, 2.5, guidance_rescale=0.6),
        rescale_noise_cfg(uncond + 2.5 * (cond - uncond), cond, 0.6),
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"t": torch.zeros(3).long()}, r"t is \(3,\)"),
        ({"condition": torch.zeros(1).long()}, r"condition is \(1,\)"),
        ({"null": torch.zeros(2, 3)}, r"null \(2, 3\) must be a number"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number"),
        ({"guidance_scale": torch.ones(3)}, "guidance_scale must be a finite number"),
    ],
)
def test_guided_prediction_bad_input(change, message):
    given = {"x_t": torch.zeros(2, 1, 2, 2), "t": torch.zeros(2).long(), "null": 10}
    given |= {"condition": torch.zeros(2).long(), "guidance_scale": 2.0}
    with pytest.raises(ValueError, match=message):
        guided_prediction(lambda x_t, t, condition: x_t, **given | change)


# --- rescale


@pytest.mark.parametrize("shape", [(3, 1, 5, 4), (2, 3, 4), (1, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("guidance_rescale", [0.0, 0.3, 0.7, 1.0])
def test_rescale_equals_diffusers(shape, dtype, guidance_rescale):
    guided, cond = 3 * torch.randn(shape, dtype=dtype) + 1, torch.randn(shape, dtype=dtype)
    actual = rescale_guidance(guided, cond, guidance_rescale)
    torch.testing.assert_close(actual, rescale_noise_cfg(guided, cond, guidance_rescale))
    if guidance_rescale == 1:
        torch.testing.assert_close(actual.flatten(1).std(dim=1), cond.flatten(1).std(dim=1))


def test_rescale_leaves_a_prediction_without_contrast_as_it_is():
    guided = torch.stack([torch.zeros(4), torch.full((4,), 2.0), torch.tensor([0.0, 1, 2, 3])])
    cond = torch.stack([torch.zeros(4), torch.randn(4), torch.tensor([0.0, 2, 4, 6])])
    torch.testing.assert_close(
        rescale_guidance(guided, cond, 1.0), torch.stack([*guided[:2], cond[2]])
    )


def test_rescale_bad_input():
    with pytest.raises(ValueError, match="differ"):
        rescale_guidance(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"guidance_rescale must lie in \[0, 1\], got 2"):
        rescale_guidance(torch.zeros(2, 3), torch.zeros(2, 3), 2)


# --- the sampler


@pytest.mark.parametrize("clip_sample", [True, False])
@pytest.mark.parametrize("scale, rescale", [(1.0, 0.0), (3.0, 0.0), (5.0, 0.7)])
def test_sample_guided_equals_diffusers(scale, rescale, clip_sample):
    mixture, label = world(), torch.tensor([0, 1, 2, 0])
    theirs = DDIMScheduler(100, clip_sample=clip_sample, timestep_spacing="trailing")
    theirs.alphas_cumprod, theirs.final_alpha_cumprod = AC, torch.ones(()).double()
    theirs.set_timesteps(10)
    x = x_T = torch.randn(4, 2).double()
    for step in theirs.timesteps:
        t = torch.full((4,), int(step))
        uncond, cond = mixture(x, t, torch.full((4,), 3)), mixture(x, t, label)
        noise_pred = rescale_noise_cfg(uncond + scale * (cond - uncond), cond, rescale)
        x = theirs.step(noise_pred, step, x, use_clipped_model_output=True).prev_sample
    actual = sample_guided(
        mixture, x_T, label, 3, AC, spaced_timesteps(100, 10), scale, rescale, clip_sample
    )
    torch.testing.assert_close(actual, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_sample_guided_finds_the_gaussian_that_guidance_asks_for(scale):
    """p(x) = N(m, σ²), p(x|c) = N(μ, σ²): guided, the samples are N(m + s·(μ - m), σ²)."""
    mean, means, std = 0.2, torch.tensor([0.8, -0.6]).double(), 0.3

    def model(x_t, t, label):
        centre = torch.cat([means, torch.tensor([mean])])[label].reshape(-1, 1, 1, 1)
        bar = gather(AC, t, x_t)
        return (1 - bar).sqrt() * (x_t - bar.sqrt() * centre) / (bar * std**2 + 1 - bar)

    x_T, label = torch.randn(2, 1, 30, 40).double(), torch.tensor([0, 1])
    timesteps = spaced_timesteps(100, 100)
    samples = sample_guided(model, x_T, label, 2, AC, timesteps, scale, clip_sample=False)
    wanted = mean + scale * (means - mean)
    noise = x_T - AC[-1].sqrt() * wanted.reshape(-1, 1, 1, 1)
    expected = wanted.reshape(-1, 1, 1, 1) + std * noise / (AC[-1] * std**2 + 1 - AC[-1]).sqrt()
    torch.testing.assert_close(samples, expected, rtol=0, atol=0.04)


@pytest.mark.parametrize("kind", ["sample", "v_prediction"])
def test_guidance_is_the_same_in_every_language(kind):
    def speaker(x_t, t, label):
        return convert_prediction(world()(x_t, t, label), x_t, t, AC, "epsilon", kind)

    x_T, label = torch.randn(4, 2).double(), torch.tensor([0, 1, 2, 0])
    given = (x_T, label, 3, AC, spaced_timesteps(100, 10), 3.0)
    torch.testing.assert_close(
        sample_guided(speaker, *given, prediction_type=kind), sample_guided(world(), *given)
    )


def test_rescaling_tames_the_picture_and_not_the_noise():
    """Nearly pure noise: in its language the contrast of the guess stays, in the picture's not."""
    model = class_recipe("smoke").build().eval()
    nn.init.normal_(model.denoiser.unet.conv_out.weight, std=0.5)
    x_t, t, label = torch.randn(3, 1, 28, 28), torch.full((3,), 900), torch.tensor([1, 2, 3])
    ac = model.denoiser.alphas_cumprod

    def contrast(speaker, scale, rescale):
        guided = guided_prediction(speaker, x_t, t, label, model.null, scale, rescale)
        if speaker is model:
            guided = predict_x_0(x_t, guided, t, ac)
        return guided.flatten(1).std(dim=1)

    with torch.no_grad():
        plain = contrast(AsPicture(model), 1.0, 0.0)
        torch.testing.assert_close(contrast(AsPicture(model), 30.0, 1.0), plain)
        torch.testing.assert_close(contrast(model, 1.0, 0.0), plain)


def test_sample_guided_reports_each_step():
    seen = []
    x_T, label = torch.randn(4, 2).double(), torch.tensor([0, 1, 2, 0])
    timesteps = torch.tensor([99, 40, 3])
    last = sample_guided(
        world(), x_T, label, 3, AC, timesteps, on_step=lambda t, x, noise_pred: seen.append((t, x))
    )
    assert [t for t, _ in seen] == [99, 40, 3] and torch.equal(seen[-1][1], last)


# --- recipes and runs


@pytest.mark.parametrize("tier", ["smoke", "cpu"])
def test_class_recipes_build_and_their_loss_reaches_every_weight(tier):
    model = class_recipe(tier).build()
    nn.init.normal_(model.denoiser.unet.conv_out.weight)
    torch.manual_seed(0)
    class_loss(model, (torch.randn(40, 1, 28, 28), torch.arange(40) % 10)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    used = model.label_embedding.table.weight.grad.abs().sum(dim=1) > 0
    assert used.all(), "every class, and the null class"


def test_told_fills_the_condition_in():
    model = class_recipe("smoke").build().eval()
    x_t, t, label = torch.randn(2, 1, 28, 28), torch.tensor([100, 900]), torch.tensor([3, 10])
    assert torch.equal(Told(model, label)(x_t, t), model(x_t, t, label))


def test_wilson_interval():
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1
    low, high = wilson(98, 100)
    assert low == pytest.approx(0.9300, abs=1e-3) and high == pytest.approx(0.9945, abs=1e-3)
    for n in range(1, 1001):  # whatever is rounded, the share itself lies within
        assert wilson(0, n)[0] == 0 and wilson(n, n)[1] == 1
    with pytest.raises(ValueError, match="hits"):
        wilson(3, 2)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 20), (-0.1611, 0.2775)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ],
)
def test_the_gap_between_two_shares_is_newcombes(counts, interval):
    assert share_gap(*counts) == pytest.approx(interval, abs=1e-4)
    turned = share_gap(*counts[2:], *counts[:2])
    assert turned == pytest.approx((-interval[1], -interval[0]), abs=1e-4)


def test_spread_is_within_the_classes():
    features, labels = torch.randn(3000, 4), torch.arange(3000) % 3
    features += 100 * labels[:, None]
    assert spread(features, labels) == pytest.approx(4, rel=0.1)


@pytest.mark.skipif(not REAL_MNIST, reason=f"needs real MNIST, has {data_source()}")
def test_reference_digits_are_balanced_and_are_their_own_ceiling():
    real = reference(100)
    assert real.labels.bincount().tolist() == [10] * 10
    measured = measure(real.images, real.labels, real)
    assert measured["diversity"] == 1 and measured["asked"] > 0.9
    with pytest.raises(ValueError, match="multiple of 10"):
        reference(105)


def test_train_then_evaluate_writes_weights_and_figures(tmp_path, monkeypatch):
    from t2i.runs import class_runs

    monkeypatch.setattr(class_runs, "sample_guided", lambda model, x_T, *rest, **options: x_T)
    out, device = tmp_path / "classes.safetensors", torch.device("cpu")
    train_recipe("smoke", out, device)
    evaluate(out, 100, device)
    found = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert [row["guidance_scale"] for row in found["scales"]][:4] == [0, 1, 1.5, 2]
    assert found["scales"][0]["recognisability"] == 0  # pure noise came in
    assert found["steps"] == 20 and found["n"] == 100 and found["real"]["diversity"] == 1
    names = sorted(p.name for p in tmp_path.glob("classes*"))
    assert names == ["classes.json", "classes.safetensors"]


@pytest.mark.skipif(not REAL_MNIST, reason=f"needs real MNIST, has {data_source()}")
def test_committed_weights_follow_the_label():
    model, info = load_class_unet()
    assert WEIGHTS.stat().st_size < 5_000_000
    assert info["parameters"] == sum(p.numel() for p in model.parameters())
    x_T, label = torch.randn(10, 1, 28, 28), torch.arange(10)
    timesteps = spaced_timesteps(1000, 10)
    samples = sample_guided(
        model, x_T, label, model.null, model.denoiser.alphas_cumprod, timesteps, 3.0
    )
    real = reference(100)
    assert measure(samples.repeat_interleave(2, 0), label.repeat_interleave(2), real)["asked"] > 0.7


def test_committed_figures_reach_the_aim():
    found = json.loads((DATA / "guidance_cpu.json").read_text(encoding="utf-8"))
    assert found["n"] >= 1000 and found["steps"] == class_recipe("cpu").training.steps
    rows = {(row["guidance_scale"], row["guidance_rescale"]): row for row in found["scales"]}
    assert rows[3.0, 0.0]["asked"] >= 0.98
    assert rows[0.0, 0.0]["asked"] < 0.25  # nothing was asked
    assert rows[8.0, 0.0]["diversity"] < rows[1.0, 0.0]["diversity"]
