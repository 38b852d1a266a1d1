"""Weights of diffusers' transformers, under our names: the proof that our blocks are the real ones.

    ours = load_dit("DiT-XL-2-256/transformer")             # a folder that diffusers wrote
    ours = dit_from_config(theirs.config)
    ours.load_state_dict(dit_state_dict(theirs.state_dict()))

Nearly every number is copied as it is. Four things are not only renamed: the first layer, which
is a convolution there and a linear layer over patches here; the embedding of time and class, which
there lies in each block (with the same numbers everywhere) and here once; the table of the classes,
which lies as the writer of lesson 5's LabelEmbedding wanted; and the last block's norm of the
words, which there has the scale before the shift.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from t2i.dit import DiT
from t2i.files.folders import MISFITS, FilesError, filled, read_folder
from t2i.guidance import LabelEmbedding
from t2i.patches import sincos_position_embedding_2d

# The sizes of DiT-XL/2 for 256 × 256 pixels, as they stand in its config.json.
DIT_XL_2 = {
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": 8,  # four for the noise, and four for its variance, which ours leaves out
    "num_layers": 28,
    "sample_size": 32,
    "patch_size": 2,
    "num_embeds_ada_norm": 1000,
    "norm_eps": 1e-5,
}

EMBEDDING = {
    "timestep_embedder.linear_1": "time_mlp.0",
    "timestep_embedder.linear_2": "time_mlp.2",
    "class_embedder.embedding_table": "labels",
}
OUTSIDE = {"proj_out_1": "final.modulation.1", "proj_out_2": "final.patch_out"}
BLOCK = {
    "norm1.linear": "modulation.1",
    "attn1.to_q": "attn.to_q",
    "attn1.to_k": "attn.to_k",
    "attn1.to_v": "attn.to_v",
    "attn1.to_out.0": "attn.to_out",
    "ff.net.0.proj": "mlp.0",
    "ff.net.2": "mlp.2",
}
JOINT = {
    "norm1.linear": "patches.modulation.1",
    "norm1_context.linear": "words.modulation.1",
    "attn.to_q": "patches.to_q",
    "attn.to_k": "patches.to_k",
    "attn.to_v": "patches.to_v",
    "attn.add_q_proj": "words.to_q",
    "attn.add_k_proj": "words.to_k",
    "attn.add_v_proj": "words.to_v",
    "attn.norm_q": "patches.norm_q",
    "attn.norm_k": "patches.norm_k",
    "attn.norm_added_q": "words.norm_q",
    "attn.norm_added_k": "words.norm_k",
    "attn.to_out.0": "patches.to_out",
    "attn.to_add_out": "words.to_out",
    "ff.net.0.proj": "patches.mlp.0",
    "ff.net.2": "patches.mlp.2",
    "ff_context.net.0.proj": "words.mlp.0",
    "ff_context.net.2": "words.mlp.2",
}


def dit_from_config(config: Mapping[str, Any]) -> DiT:
    """A fresh DiT of the same sizes.

    Args:
        config: of a DiTTransformer2DModel (its `.config`, or the config.json of a folder).

    Raises:
        ValueError: a choice of theirs that our DiT has not.
    """
    usual = {
        "norm_type": "ada_norm_zero",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "norm_elementwise_affine": False,
    }
    for name, value in usual.items():
        if config.get(name, value) != value:
            raise ValueError(f"config has {name} {config[name]!r}, our DiT knows {value!r} alone")
    heads = config["num_attention_heads"]
    return DiT(
        config["in_channels"],
        config.get("out_channels"),
        config["sample_size"],
        config["patch_size"],
        heads * config["attention_head_dim"],
        config["num_layers"],
        heads,
        config["num_embeds_ada_norm"],
        config.get("norm_eps", 1e-5),
    )


def load_dit(folder: str | Path, dtype: torch.dtype = torch.float32) -> DiT:
    """diffusers' DiTTransformer2DModel as lesson 9's DiT.

    Args:
        folder: holds config.json and the weights in safetensors.
        dtype: of the weights.

    Raises:
        FilesError: a file is missing or damaged, it makes another choice than ours, or the weights
            are not exactly such a one's; the message names them.
    """
    config, state = read_folder(folder, "diffusion_pytorch_model")
    try:
        with torch.device("meta"):
            dit = dit_from_config(config)
    except MISFITS as error:
        raise FilesError(f"{folder}/config.json describes no DiT of ours: {error}.") from None
    try:
        state = dit_state_dict(state)
    except KeyError as error:
        raise FilesError(f"The weights in {folder} do not fit: 1 unknown ({error}).") from None
    except ValueError as error:
        raise FilesError(f"The weights in {folder} do not fit: {error}.") from None
    dit = filled(dit, state, folder, dtype)
    grid = [side // dit.patch_size for side in dit.picture[1:]]  # the places are in no file
    dit.positions = sincos_position_embedding_2d(dit.positions.shape[1], *grid).to(dtype)
    return dit


def dit_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' DiTTransformer2DModel under the names of our DiT.

    Args:
        state: DiTTransformer2DModel(...).state_dict(), or the tensors of its file.

    Raises:
        KeyError: a tensor that our DiT has no place for.
        ValueError: the blocks embed time and class each in its own way; ours does it once. Or the
            table of the classes does not fit, as in labels_state_dict.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        module, _, parameter = name.rpartition(".")
        if module == "pos_embed.proj":  # (dim, C, p, p), as a linear layer over (p p C)
            tensor = rearrange(tensor, "d c p q -> d (p q c)") if tensor.ndim == 4 else tensor
            renamed[f"patch_in.{parameter}"] = tensor
        elif module in OUTSIDE:
            renamed[f"{OUTSIDE[module]}.{parameter}"] = tensor
        else:
            head, number, inside = (*module.split(".", 2), "", "")[:3]
            if head != "transformer_blocks":
                raise KeyError(module)
            embedding = inside.removeprefix("norm1.emb.")
            if embedding in EMBEDDING:
                place = f"{EMBEDDING[embedding]}.{parameter}"
                if not torch.equal(renamed.setdefault(place, tensor), tensor):
                    raise ValueError(f"{name} differs from the first block's: ours has one alone")
            else:
                renamed[f"blocks.{number}.{BLOCK[inside]}.{parameter}"] = tensor
    table = renamed.pop("labels.weight", None)
    if table is not None:
        renamed |= {f"labels.{name}": part for name, part in labels_state_dict(table).items()}
    return renamed


def labels_state_dict(table: Tensor) -> dict[str, Tensor]:
    """The vectors of all classes under the names of LabelEmbedding, whatever these are.

    Lesson 5 asks for a vector for each class and leaves open what the weights are called and how
    they lie. So its weights are numbered: each vector that it gives then tells which weights it is
    made of.

    Args:
        table: (num_classes + 1, dim), the null class last.

    Raises:
        ValueError: it is no table, or LabelEmbedding's vectors are not simply its weights.
    """
    if table.ndim != 2:
        raise ValueError(f"the classes' table must be (classes, dim), got {tuple(table.shape)}")
    with torch.random.fork_rng(devices=[]):  # its random start is not used
        labels = LabelEmbedding(len(table) - 1, table.shape[1]).eval()
    own = labels.state_dict()
    counts = [weights.numel() for weights in own.values()]

    def as_own(flat: Tensor) -> dict[str, Tensor]:
        parts = zip(own.items(), flat.split(counts), strict=True)
        return {name: part.view_as(weights) for (name, weights), part in parts}

    if sum(counts) == table.numel():
        numbers = torch.arange(table.numel()).float()  # exact up to 2²⁴
        labels.load_state_dict(as_own(numbers))
        with torch.no_grad():
            weight_of = labels(torch.arange(len(table))).flatten()  # for each entry of the table
        entry_of = weight_of.argsort()  # for each weight
        if torch.equal(weight_of[entry_of], numbers):
            return as_own(table.flatten()[entry_of])
    raise ValueError("LabelEmbedding's vectors are not just its weights, so no table fits into it")


def share_embedding(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first block's embedding of time and class in every block, as in all released weights.

    A freshly built DiTTransformer2DModel has another in each; its answer uses the first block's
    for the last layer anyway.
    """
    shared = dict(state)
    for name in state:
        head, mark, rest = name.partition(".norm1.emb.")
        if mark:
            shared[name] = state[f"transformer_blocks.0{mark}{rest}"]
    return shared


def joint_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' JointTransformerBlock under the names of our JointAttentionBlock.

    Raises:
        KeyError: a tensor that our block has no place for (the second attention of SD 3.5).
    """
    renamed = {}
    ends = "attn.to_add_out.weight" not in state  # context_pre_only
    for name, tensor in state.items():
        module, _, parameter = name.rpartition(".")
        if ends and module == "norm1_context.linear":
            scale, shift = tensor.chunk(2)
            tensor = torch.cat([shift, scale])
        renamed[f"{JOINT[module]}.{parameter}"] = tensor
    return renamed
