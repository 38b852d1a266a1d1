"""The true sizes of Stable Diffusion 1.5 and of DiT-XL/2, with random weights, beside diffusers."""

import shutil

import diffusers
import pytest
import torch

from t2i.pretrained.dit_files import DIT_XL_2, load_dit, share_embedding
from t2i.pretrained.sd_bench import compare, draw_ours, draw_theirs, write_in_a_process
from t2i.pretrained.sd_random import TINY, write_random

GIGA = 1e9


def test_the_bench_compares_what_is_the_same(tmp_path):
    write_random(tmp_path, TINY)
    found = {
        who: draw(tmp_path, steps=2, side=16)
        for who, draw in (("ours", draw_ours), ("diffusers", draw_theirs))
    }
    ours, theirs = (found[who].pop("tensors") for who in ("ours", "diffusers"))
    assert found["ours"].keys() == found["diffusers"].keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """GB of weights, and both by turns: 860 million weights, 64 × 64 latents, float32."""
    folder = tmp_path_factory.mktemp("sd15")
    write_in_a_process(folder, tiny=False)
    weights = sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / GIGA
    found = compare(folder, steps=2, side=512, rounds=1)  # raises where they differ by 1e-4
    shutil.rmtree(folder)
    return weights, found


@pytest.mark.thorough
def test_stable_diffusion_1_5_draws_the_same(drawn):
    weights, found = drawn
    assert 4.2 < weights < 4.3
    assert all(far <= 1e-4 for far in found["largest_difference"].values())


@pytest.mark.thorough
def test_stable_diffusion_1_5_needs_no_more_memory(drawn):
    weights, found = drawn
    ours, theirs = (found["figures"][who] for who in ("ours", "diffusers"))
    assert ours["peak"][0] <= theirs["peak"][0]
    assert ours["above_imports"][0] <= 1.02 * theirs["above_imports"][0]
    assert ours["loaded"][0] <= 1.05 * weights, "a second copy of the weights"


@pytest.mark.thorough
@torch.no_grad()
def test_dit_xl_2_gives_the_same(tmp_path):
    with torch.device("meta"):
        theirs = diffusers.DiTTransformer2DModel(**DIT_XL_2)
    theirs = theirs.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        parameter.normal_(std=0.02, generator=generator)
    fresh = diffusers.models.embeddings.get_2d_sincos_pos_embed(1152, 16, base_size=16)
    theirs.pos_embed.pos_embed.copy_(torch.as_tensor(fresh)[None])
    theirs.load_state_dict(share_embedding(theirs.state_dict()))
    theirs.save_pretrained(tmp_path, max_shard_size="1GB")
    z, t, label = torch.randn(2, 4, 32, 32), torch.tensor([3, 900]), torch.tensor([207, 1000])
    expected = theirs(z, t, label).sample
    del theirs
    ours = load_dit(tmp_path)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(z, t, label), expected, rtol=1e-4, atol=1e-4)
