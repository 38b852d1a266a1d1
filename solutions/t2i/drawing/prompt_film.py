"""Looks on while lesson 10's model draws: the picture as guessed at each step, and who looks where.

    film = PromptFilm(pipe, "a red seven")
    with film:
        pictures = pipe("a red seven", on_step=film)
    show_film(film, 0)                                    # of show_attention, as in lesson 6

Nothing here is needed to draw; it only looks, from outside.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from t2i.bpe import Tokenizer
from t2i.byte_words import WORD_END
from t2i.drawing.show_attention import spread
from t2i.engine.watching import watching
from t2i.runs.dit_studies import is_a, joint_weights
from t2i.text_to_image import TextToImage, encode_prompt, repeat_prompts


class PromptFilm:
    """Keeps, for each step, what the picture would be and how much each patch looks at each word.

    Most looks go to other patches, and to the start and the end of the prompt. What a map shows is
    how the rest is shared out among the words: at each place the words' maps sum to 1.

    Args:
        pipe: what draws.
        prompt: as it is called.
        num_images: as it is called.
    """

    def __init__(self, pipe: TextToImage, prompt: str | Sequence[str], num_images: int = 1):
        prompts = repeat_prompts(prompt, num_images)
        self.pipe, self.size = pipe, pipe.size
        length = len(pipe.text.positions)
        found = [group_words(pipe.tokenizer, each, length) for each in prompts]
        self.words = [[word for word, _ in groups] for groups in found]
        self._places = [[places for _, places in groups] for groups in found]
        self.steps: list[float] = []
        self.maps: dict[float, list[Tensor]] = {}  # step -> B of (words, size, size)
        self.guess: dict[float, Tensor] = {}  # step -> (B, 3, size, size)
        self._seen: list[Tensor] = []
        self._start: tuple[Tensor, float] | None = None
        self._pooled = encode_prompt(pipe.tokenizer, pipe.text, prompts).pooled
        self._rows: slice | None = None  # of a batch: where the prompts are, not the empty ones
        self._watching = ExitStack()

    def __enter__(self) -> "PromptFilm":
        self._watching.enter_context(watching(self.pipe.transformer, before=self._look))
        return self

    def __exit__(self, *_) -> None:
        self._watching.close()

    @torch.no_grad()
    def __call__(self, t_next: float, z: Tensor, direction: Tensor) -> None:
        """What `on_step` is: put away what was seen during this step."""
        z_t, t = self._start
        step = round(t, 3)
        self.steps.append(step)
        guess = self.pipe.space.decode(z_t - t * direction)  # the end of a straight road from here
        self.guess[step] = guess.clamp(-1, 1).cpu()
        weights = torch.stack(self._seen).mean(0)  # (B, L, size, size), mean of all blocks
        self.maps[step] = [
            shares(torch.stack([maps[where].sum(0) for where in places]))
            for maps, places in zip(weights, self._places, strict=True)
        ]

    def _begin(self, inputs: tuple) -> None:
        z_t, t, pooled = *inputs[:2], inputs[4]
        self._rows, count = None, len(self.words)
        for rows in (slice(-count, None), slice(count)):
            if len(z_t) >= count and torch.allclose(pooled[rows], self._pooled, atol=1e-4):
                self._rows = rows
                self._seen, self._start = [], (z_t[rows], t[0].item())
                break

    @torch.no_grad()
    def _look(self, _: str, layer: nn.Module, inputs: tuple) -> None:
        if layer is self.pipe.transformer:
            self._begin(inputs)
        if self._rows is None or not is_a(layer, "JointAttentionBlock"):
            return
        last = [part if part is None else part[self._rows] for part in inputs]
        patches = inputs[0].shape[1]
        weights = joint_weights(layer, last).mean(1)[:, :patches, patches:]  # (B, N, L)
        self._seen.append(spread(weights, self.size))


def shares(maps: Tensor) -> Tensor:
    """Maps (words, size, size), scaled so that they sum to 1 at each place."""
    return maps / maps.sum(0).clamp(min=1e-12)


def group_words(tokenizer: Tokenizer, text: str, length: int) -> list[tuple[str, list[int]]]:
    """The words that are really read, each with the places of its pieces among the tokens."""
    groups: list[tuple[str, list[int]]] = []
    whole = True
    for place, number in enumerate(tokenizer.encode(text, length)):
        if number in (tokenizer.start, tokenizer.end):
            continue
        word, places = ("", []) if whole else groups.pop()
        piece = tokenizer.pieces[number]
        groups.append((word + piece.removesuffix(WORD_END), [*places, place]))
        whole = piece.endswith(WORD_END)
    return groups or [("(nothing)", [0])]
