"""The autoencoder and CLIP, trained first: what lesson 10's transformer stands on and learns from.

    parts = SmallParts(plan, shop)                    # trained now, or found finished
    batches = parts.latents()                         # every picture through the autoencoder, once
    pipe = parts.whole(transformer)                   # the three together

`text_to_image_runs.train_all` does it in this order.
"""

import copy
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn
from tqdm.auto import tqdm

from t2i.engine.distributed import ALONE, OwnRows, Team
from t2i.files.checkpoint import digest
from t2i.files.shards import ShardBatches
from t2i.latents import LatentSpace
from t2i.prompt_encoder import PromptEncoder
from t2i.runs.clip_recipes import ClipRecipe
from t2i.runs.shard_training import is_written, write_encoded_shards
from t2i.runs.text_to_image_recipes import TextToImageRecipe, encode_scenes
from t2i.runs.vae_recipes import VaeRecipe
from t2i.runs.vae_runs import scaling_factor_of
from t2i.runs.workshop import Part, Workshop, same_or_refuse
from t2i.text_to_image import TextDiT, TextToImage
from t2i.training import TrainState
from t2i.vae import AutoencoderKL

Watch = Callable[[TextToImage, TrainState, float], None]


class SmallParts:
    """The autoencoder and CLIP of a recipe, and the data that the transformer gets through them.

    Args:
        plan: the recipe of all three.
        shop: where they are made.
        team: who trains the transformer. These two are the work of its first process.

    Raises:
        CheckpointError: another recipe, or other data, left something in the shop.
    """

    def __init__(self, plan: TextToImageRecipe, shop: Workshop, team: Team = ALONE):
        self.plan, self.shop, self.team = plan, shop, team
        with team.first_goes_ahead():
            shop.claim(plan.data)
            vae = self._made("vae", plan.vae, self._scaling)
            clip = self._made("clip", plan.clip, plan.clip.measure)
        self.text = PromptEncoder(clip.text)
        self.space = LatentSpace(vae, shop.log["vae"]["scaling_factor"]).to(shop.device)
        vae_file, clip_file = (shop.folder / f"{name}.safetensors" for name in ("vae", "clip"))
        self.latents_made_of = {"scenes": plan.scenes, "vae": digest(vae_file)}
        self.made_of = self.latents_made_of | {"clip": digest(clip_file)}

    def _made(self, name: str, plan: VaeRecipe | ClipRecipe, finish: Callable) -> nn.Module:
        part = Part(plan.build(), plan.loss, plan.batches, plan.training, finish)
        return self.shop.part(name, part)

    def _scaling(self, vae: AutoencoderKL) -> dict[str, float]:
        return {"scaling_factor": scaling_factor_of(vae, self.plan.some())}

    def latents(self) -> OwnRows:
        """Batches of latents and tokens, from memory."""
        with self.team.first_goes_ahead():
            data = self.shop.tensors("latents", self._encoded, **self.latents_made_of)
        return OwnRows(self.plan.batches(data["z_0"].float(), data["tokens"]), self.team)

    def _encoded(self) -> dict[str, Tensor]:
        """All pictures of the transformer's training, through the autoencoder once."""
        plan, told = self.plan, f"{self.plan.scenes:,} pictures to latents"
        z_0, tokens = encode_scenes(
            self.space,
            plan.encoded(),
            plan.scenes,
            lambda parts: tqdm(parts, desc=told, unit="batch"),
        )
        return {"z_0": z_0, "tokens": tokens}

    def shards(self, folder: Path, lanes: int) -> ShardBatches:
        """The same from a folder of shards, which is written if it is empty.

        Raises:
            CheckpointError: the shards were made by other parts.
        """
        plan, team = self.plan, self.team
        if not is_written(folder):
            how = {"team": team, "lanes": lanes} | self.made_of
            write_encoded_shards(plan, self.space, self.text, folder, **how)
        found = ShardBatches(folder, plan.batch_size, team, lanes=lanes)
        same_or_refuse(folder, found.made_of, self.made_of)
        return found

    def whole(self, transformer: TextDiT) -> TextToImage:
        """The three together."""
        tokenizer, size, shift = self.plan.clip.tokenizer, self.plan.vae.size, self.plan.shift
        return TextToImage(tokenizer, self.text, transformer, self.space, size, shift)

    def watched(self, watch: Watch) -> Callable[[TrainState, float], None]:
        """What to call after each step of the transformer, so that `watch` sees the whole model.

        Args:
            watch: called with the model as far as it is trained, the state, and the seconds that
                all three trainings have taken so far.
        """

        def watch_whole(state: TrainState, seconds: float) -> None:
            before = sum(part.get("seconds", 0.0) for part in self.shop.log.values())
            slow = state.ema_model  # a pipeline freezes what it is made of
            slow = copy.deepcopy(slow) if slow is state.model else slow
            watch(self.whole(slow), state, before + seconds)

        return watch_whole
