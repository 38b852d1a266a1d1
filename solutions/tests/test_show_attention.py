"""Lesson 6's film looks on, however a block calls its attention."""

import torch

from t2i.drawing.show_attention import WordFilm
from t2i.runs.scene_recipes import LENGTH, draw_captions
from t2i.text_unet import SceneDenoiser
from t2i.transformer import TransformerBlock
from t2i.world.caption_reading import VOCABULARY

TINY = {
    "block_channels": (8, 16),
    "attention_levels": (False, True),
    "layers_per_block": 1,
    "head_channels": 8,
    "norm_groups": 4,
    "context_dim": 8,
}
CAPTIONS = ["a drawing of a pink heart", "a star that is blue"]


def by_place(self, x, context, context_mask=None):
    x = x + self.attn1(self.norm1(x))
    x = x + self.attn2(self.norm2(x), context, context_mask)
    return x + self.ff(self.norm3(x))


def by_name(self, x, context, context_mask=None):
    x = x + self.attn1(x=self.norm1(x))
    x = x + self.attn2(self.norm2(x), context=context, context_mask=context_mask)
    return x + self.ff(self.norm3(x))


def all_by_name(self, x, context, context_mask=None):
    x = x + self.attn1(x=self.norm1(x))
    x = x + self.attn2(context_mask=context_mask, context=context, x=self.norm2(x))
    return x + self.ff(self.norm3(x))


def past_the_hooks(self, x, context, context_mask=None):
    x = x + self.attn1.forward(self.norm1(x))
    x = x + self.attn2.forward(self.norm2(x), context, context_mask)
    return x + self.ff.forward(self.norm3(x))


def test_a_block_may_name_what_it_gives_to_its_attention(monkeypatch):
    torch.manual_seed(0)
    model = SceneDenoiser(len(VOCABULARY), max_length=LENGTH, **TINY).eval()
    films = []
    for forward in (by_place, by_name, all_by_name, past_the_hooks):
        monkeypatch.setattr(TransformerBlock, "forward", forward)
        film = WordFilm(model, CAPTIONS)
        with film:
            draw_captions(model, CAPTIONS, seed=1, num_inference_steps=2, on_step=film)
        films.append(film)
    first, *others = films
    for film in others:
        assert film.steps == first.steps
        for step in first.steps:
            assert torch.equal(film.maps[step], first.maps[step])
    assert not any("forward" in vars(layer) for layer in model.modules()), "put back"
