"""Our autoencoder with diffusers' weights gives diffusers' numbers; files of theirs load."""

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from t2i.files.folders import FilesError
from t2i.pretrained.vae_files import FILE, autoencoder_state_dict, load_autoencoder
from t2i.vae import AutoencoderKL, Decoder, Encoder
from t2i.vae_layers import ConvBlock, Level, PaddedDownsample

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SIZES = [  # channels, latent channels, block channels, layers a block, groups, (B, H, W)
    (3, 4, (8, 16), 1, 4, (3, 6, 10)),
    (3, 4, (16, 32, 32), 2, 8, (1, 12, 8)),
    (1, 2, (4, 8, 12, 16), 1, 2, (5, 8, 24)),
    (4, 3, (12,), 3, 3, (3, 5, 7)),
]


def pair(channels, latent, widths, layers, groups):
    """A diffusers model with random weights everywhere, and ours with the same."""
    theirs = diffusers.AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=layers,
        latent_channels=latent,
        norm_num_groups=groups,
    ).eval()
    generator = torch.Generator().manual_seed(3)
    for p in theirs.parameters():
        p.data = 0.7 * p.data + 0.1 * torch.randn(p.shape, generator=generator)
    sizes = {"block_channels": widths, "layers_per_block": layers, "norm_groups": groups}
    ours = AutoencoderKL(channels, latent, **sizes)
    ours.load_state_dict(autoencoder_state_dict(theirs.state_dict()))
    return theirs, ours.eval()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels, latent, widths, layers, groups, shape", SIZES)
def test_equals_diffusers(channels, latent, widths, layers, groups, shape, dtype):
    theirs, ours = (m.to(dtype) for m in pair(channels, latent, widths, layers, groups))
    batch, height, width = shape
    x_0 = torch.randn(batch, channels, height, width, dtype=dtype)
    expected, posterior = theirs.encode(x_0).latent_dist, ours.encode(x_0)
    torch.testing.assert_close(posterior.mean, expected.mean, **CLOSE)
    torch.testing.assert_close(posterior.logvar, expected.logvar, **CLOSE)
    torch.testing.assert_close(posterior.std, expected.std, **CLOSE)
    torch.testing.assert_close(posterior.kl(), expected.kl(), **CLOSE)
    torch.testing.assert_close(posterior.mode(), expected.mode(), **CLOSE)
    noise = torch.randn(posterior.mean.shape, dtype=dtype, generator=torch.manual_seed(7))
    drawn = expected.sample(torch.manual_seed(7))
    torch.testing.assert_close(posterior.sample(noise), drawn, **CLOSE)
    torch.testing.assert_close(ours.decode(drawn), theirs.decode(drawn).sample, **CLOSE)
    torch.testing.assert_close(ours(x_0), theirs(x_0).sample, **CLOSE)
    through = theirs(x_0, sample_posterior=True, generator=torch.manual_seed(7)).sample
    torch.testing.assert_close(ours(x_0, noise), through, **CLOSE)


def test_stable_diffusions_own_size_has_the_same_tensors():
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        )
        ours = AutoencoderKL()
    expected = {k: v.shape for k, v in autoencoder_state_dict(theirs.state_dict()).items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == expected
    assert ours.compression == 8


def test_a_saved_autoencoder_loads_with_new_and_old_names(tmp_path):
    theirs, ours = pair(3, 4, (8, 16), 1, 4)
    theirs.register_to_config(scaling_factor=0.25)
    theirs.save_pretrained(tmp_path)
    x_0 = torch.randn(2, 3, 4, 6)
    loaded, scaling_factor = load_autoencoder(tmp_path)
    assert scaling_factor == 0.25
    torch.testing.assert_close(loaded(x_0), ours(x_0))
    state, old = load_file(tmp_path / f"{FILE}.safetensors"), {}
    for name, tensor in state.items():
        for new, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value")):
            name = name.replace(new, before)
        name = name.replace("to_out.0", "proj_attn")
        is_matrix = "attentions" in name and tensor.ndim == 2
        old[name] = tensor[:, :, None, None].contiguous() if is_matrix else tensor
    save_file(old, tmp_path / f"{FILE}.safetensors")
    torch.testing.assert_close(load_autoencoder(tmp_path)[0](x_0), ours(x_0))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(KeyError, match="discriminator"):
        autoencoder_state_dict({"discriminator.weight": torch.zeros(1)})
    with pytest.raises(KeyError, match="time_emb"):
        autoencoder_state_dict({"encoder.time_emb.weight": torch.zeros(1)})
    with pytest.raises(FilesError, match="config.json is missing"):
        load_autoencoder(tmp_path)
    diffusers.AutoencoderKL(norm_num_groups=8, mid_block_add_attention=False).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match="another kind"):
        load_autoencoder(tmp_path)


def test_shapes_and_bad_input():
    vae = AutoencoderKL(block_channels=(8, 8, 8), layers_per_block=1, norm_groups=4)
    assert vae.compression == 4
    assert vae.encode(torch.zeros(2, 3, 8, 12)).mean.shape == (2, 4, 2, 3)
    with pytest.raises(ValueError, match="multiples of 4"):
        vae.encode(torch.zeros(2, 3, 8, 10))
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        vae.encode(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"\(B, 4, h, w\)"):
        vae.decode(torch.zeros(2, 3, 8, 8))
    down = PaddedDownsample(8)
    assert down(torch.zeros(1, 8, 5, 8)).shape == (1, 8, 2, 4)


def test_the_border_of_zeros_is_below_and_to_the_right():
    down = PaddedDownsample(1)
    down.conv.weight.data.fill_(1.0)
    down.conv.bias.data.zero_()
    out = down(torch.ones(1, 1, 4, 4))[0, 0]
    assert out.tolist() == [[9.0, 6.0], [6.0, 4.0]]


def test_the_decoder_is_one_block_a_level_longer():
    sizes = {"block_channels": (4, 8, 12), "layers_per_block": 2, "norm_groups": 2}
    encoder, decoder = Encoder(3, 4, **sizes), Decoder(3, 4, **sizes)
    assert [len(level.blocks) for level in encoder.down] == [2, 2, 2]
    assert [len(level.blocks) for level in decoder.up] == [3, 3, 3]
    assert encoder.down[-1].resize is None and decoder.up[-1].resize is None
    assert isinstance(decoder.up[0], Level) and isinstance(decoder.up[0].blocks[0], ConvBlock)
