"""What lesson 9 measures of a denoiser: how far its patches look, its gates, and its relations.

Works on lesson 6's SceneDenoiser and on lesson 9's transformers alike; it looks on from outside.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from t2i.attention import scaled_dot_product_attention, split_heads
from t2i.engine.watching import watching
from t2i.folded_unet import noise_loss
from t2i.joint import joint_mask
from t2i.runs.class_recipes import Told
from t2i.runs.scene_recipes import ByTokens
from t2i.schedules import add_noise
from t2i.world.caption_reading import MAX_LENGTH, encode
from t2i.world.scenes import scenes

HELDOUT = 1  # seed of the scenes that are measured on; training has seed 0


def joint_weights(layer: nn.Module, inputs: Sequence) -> Tensor | None:
    """How all tokens share out their looks in a JointAttentionBlock: (B, heads, N + L, N + L).

    The block itself never keeps these numbers, so they are worked out again from its weights.

    Args:
        layer: for any other layer the answer is None.
        inputs: what it was called with.
    """
    if not is_a(layer, "JointAttentionBlock"):
        return None
    x, context, c, mask = (*inputs, None)[:4]
    offers = layer.patches.offer(x, c), layer.words.offer(context, c)
    query, key = (torch.cat([offer[i] for offer in offers], dim=2) for i in (0, 1))
    return scaled_dot_product_attention(query, key, key, joint_mask(mask, x.shape[1]))[1]


def patch_weights(layer: nn.Module, inputs: Sequence) -> Tensor | None:
    """How the patches share out their looks in a layer: (B, heads, N, N), or (…, N, N + L).

    Args:
        layer: SelfAttention or JointAttentionBlock of lesson 9, or lesson 6's CrossAttention
            without words; for any other layer the answer is None.
        inputs: what it was called with.
    """
    if is_a(layer, "JointAttentionBlock"):
        return joint_weights(layer, inputs)[:, :, : inputs[0].shape[1]]
    without_words = all(given is None for given in inputs[1:])
    looks_at_itself = is_a(layer, "CrossAttention") and without_words
    if not is_a(layer, "SelfAttention") and not looks_at_itself:
        return None
    query, key = (split_heads(to(inputs[0]), layer.num_heads) for to in (layer.to_q, layer.to_k))
    return scaled_dot_product_attention(query, key, key)[1]


def is_a(layer: nn.Module, name: str) -> bool:
    """Whether a layer is of the class of that name, the package's or one from a notebook."""
    return any(kind.__name__ == name for kind in type(layer).__mro__)


def distances(height: int, width: int) -> Tensor:
    """(N, N) distance of any two cells of a grid, centre to centre, in cells."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([y, x], dim=-1).flatten(0, 1).float()
    return torch.cdist(places, places)


@torch.no_grad()
def attention_distances(model: nn.Module, call: Callable[[], object], side: int) -> list[dict]:
    """How far the patches look on average, for each layer in which they look at each other.

    distance = mean over places of Σ_key weight · |place - key|, weights among patches alone

    Args:
        model: what is watched.
        call: runs the model on some pictures, once or several times.
        side: height and width of the pictures in pixels.

    Returns:
        for each layer, in the order they run: name, side of its grid, `distance` in pixels,
        `heads` the same for each head, `even`: the distance if all patches were looked at alike,
        `words`: the share of the look that goes to words (0 where there are none to look at).
    """
    found: dict[str, list[Tensor]] = {}

    def record(name: str, layer: nn.Module, inputs: tuple) -> None:
        weights = patch_weights(layer, inputs)
        if weights is None:
            return
        weights = weights.float().cpu()
        patches = weights.shape[2]
        among = weights[..., :patches]
        words = 1 - among.sum(-1).mean()
        grid = distances(*[round(patches**0.5)] * 2) * side / patches**0.5
        far = (among * grid).sum(-1) / among.sum(-1)  # (B, heads, N)
        found.setdefault(name, []).append(
            torch.cat([far.mean((0, 2)), words[None], grid.mean()[None]])
        )

    with watching(model, record):
        call()
    rows = []
    for name, seen in found.items():
        *heads, words, even = torch.stack(seen).mean(0).tolist()
        rows.append({
            "layer": name,
            "distance": round(sum(heads) / len(heads), 3),
            "heads": [round(head, 3) for head in heads],
            "even": round(even, 3),
            "words": round(max(words, 0.0), 4),
        })  # fmt: skip
    return rows


@torch.no_grad()
def gate_sizes(model: nn.Module, call: Callable[[], object]) -> dict[str, tuple[float, float]]:
    """How far the gates of adaLN-Zero are open: mean |gate| of attention and MLP, block by block.

    Args:
        model: holds DiTBlocks or JointAttentionBlocks (of those the patches' gates count).
        call: runs the model on some pictures.
    """
    found = {}

    def record(name: str, layer: nn.Module, inputs: tuple) -> None:
        joint = is_a(layer, "JointAttentionBlock")
        if joint or is_a(layer, "DiTBlock"):
            say, c = (layer.patches, inputs[2]) if joint else (layer, inputs[1])
            _, _, first, _, _, second = say.modulation(c).chunk(6, dim=-1)
            found[name] = tuple(round(gate.abs().mean().item(), 5) for gate in (first, second))

    with watching(model, record):
        call()
    return found


def measured_scenes(
    count: int, side: int, first: int = 0, world: str = "many"
) -> tuple[Tensor, Tensor, Tensor]:
    """Scenes that no training shows (another seed, other handwriting): pictures, tokens, mask."""
    numbers = range(first, first + count)
    images, captions = scenes(numbers, "train", world, HELDOUT, side, "test")
    return images, *encode(captions, MAX_LENGTH)


@torch.no_grad()
def heldout_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> float:
    """The training's loss on scenes it never saw, always at the same steps with the same noise."""
    device, total = model.alphas_cumprod.device, 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for images, tokens, _ in zip(*(tensor.split(64) for tensor in batch), strict=True):
            told = Told(ByTokens(model), tokens.to(device))
            total += len(images) * noise_loss(told, images.to(device)).item()
    return total / len(batch[0])


def look_on(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Callable[[], object]:
    """Something to watch: the model looks at scenes at early, middle and late steps."""
    images, tokens, mask = (tensor.to(model.alphas_cumprod.device) for tensor in batch)

    def call() -> None:
        for step in (100, 400, 700):
            t = torch.full((len(images),), step, device=images.device)
            generator = torch.Generator().manual_seed(step)
            noise = torch.randn(images.shape, generator=generator).to(images.device)
            model(add_noise(images, noise, t, model.alphas_cumprod), t, tokens, mask)

    return call
