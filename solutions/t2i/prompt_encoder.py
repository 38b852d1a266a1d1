"""Lesson 10. A text encoder for a painter: no word is forgotten on the way through the layers.

    text = PromptEncoder(clip.text)                   # lesson 7's, and a way past its layers
    context, pooled = text(tokens)

CLIP compares the end token's vector alone with a picture, so nothing keeps the other vectors from
forgetting their words. A painter looks at all of them.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from t2i.clip import TextTransformer


class PromptEncoder(nn.Module):
    """A TextTransformer with a shortcut from its first layer's input to its last layer's output.

    context = hidden + LayerNorm(embedding), without a gain or a bias: both are of one length

    Args:
        text: the encoder, trained or not; it is held, not copied.
    """

    def __init__(self, text: TextTransformer):
        super().__init__()
        self.text = text

    @property
    def positions(self) -> Tensor:
        """(L, width), one a place: as many tokens can be read."""
        return self.text.positions

    @property
    def end_token(self) -> int:
        """Number of the end token."""
        return self.text.end_token

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers in, vectors out.

        Args:
            tokens: (B, L) int64, as TextTransformer takes them.

        Returns:
            context: (B, L, width) and pooled: (B, width); pooled is the encoder's own.
        """
        hidden, pooled = self.text(tokens)
        words = F.layer_norm(self.text.tokens(tokens), hidden.shape[-1:])
        return hidden + words, pooled
