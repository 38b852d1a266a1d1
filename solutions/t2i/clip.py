"""Lesson 7, second half. CLIP: pictures and texts become vectors that point the same way.

    model = CLIP(TextTransformer(50, end_token=49, width=32), ImageEncoder(32, patch=8, width=32))
    images, texts = model.encode_images(pictures), model.encode_texts(tokens)
    loss = contrastive_loss(images, texts, model.logit_scale)

The same layers and numbers as transformers' CLIPTextModel and CLIPVisionModel (with projection),
the text encoder of Stable Diffusion among them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.clip_layers import EncoderLayer, check_features, check_images, check_tokens
from t2i.engine.precision import full_precision

MAX_SCALE = 100.0  # the largest number that similarities are multiplied by


class TextTransformer(nn.Module):
    """CLIP's text encoder: each token reads those before it; the end token has read them all.

    x = tokens + positions;  x = layers(x, causal mask);  hidden = norm(x);  pooled = hidden[end]

    Args:
        vocabulary_size: how many tokens there are.
        end_token: number of the end token.
        width: channels.
        num_layers, num_heads, mlp_width: see EncoderLayer.
        max_length: tokens that a text has at most.

    Source: Radford et al. 2021, arXiv:2103.00020, section 2.4.
    """

    def __init__(
        self,
        vocabulary_size: int,
        end_token: int,
        width: int = 512,
        num_layers: int = 12,
        num_heads: int = 8,
        max_length: int = 77,
        mlp_width: int | None = None,
    ):
        super().__init__()
        self.end_token = end_token
        self.tokens = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Parameter(0.01 * torch.randn(max_length, width))
        self.layers = nn.ModuleList(
            EncoderLayer(width, num_heads, mlp_width) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers in, a vector for each token out, and one for the whole text.

        Args:
            tokens: (B, L) int64, L at most max_length; each row holds the end token.

        Returns:
            hidden: (B, L, width), after the last norm.
            pooled: (B, width), the vector of each row's first end token.

        Raises:
            ValueError: tokens of another shape or dtype, too many of them, unknown ones, or a row
                without an end token.
        """
        check_tokens(tokens, self.tokens.num_embeddings, len(self.positions), self.end_token)
        batch, length = tokens.shape
        x = self.tokens(tokens) + self.positions[:length]  # (B, L, width)
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        for layer in self.layers:
            x = layer(x, mask)
        hidden = self.norm(x)
        end = (tokens == self.end_token).int().argmax(dim=1)  # (B,), the first one
        return hidden, hidden[torch.arange(batch, device=x.device), end]


class ImageEncoder(nn.Module):
    """CLIP's vision transformer: the picture in patches, and one place that sums it up.

    x = [class, patches] + positions;  x = layers(norm_in(x));  pooled = norm_out(x[class])

    Args:
        size: height and width of the pictures.
        patch: height and width of a patch; divides size.
        width: channels.
        num_layers, num_heads, mlp_width: see EncoderLayer.
        channels: of the pictures.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, equations 1 to 4; Radford et al. 2021,
        arXiv:2103.00020, section 2.4 (norm_in).
    """

    def __init__(
        self,
        size: int = 224,
        patch: int = 32,
        width: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_width: int | None = None,
        channels: int = 3,
    ):
        super().__init__()
        if size % patch:
            raise ValueError(f"patch must divide size {size}, got {patch}")
        self.size = size
        self.conv_in = nn.Conv2d(channels, width, patch, stride=patch, bias=False)
        self.class_vector = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positions = nn.Parameter(0.02 * torch.randn((size // patch) ** 2 + 1, width))
        self.norm_in = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            EncoderLayer(width, num_heads, mlp_width) for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures in, a vector for each place out, and one for the whole picture.

        Args:
            images: (B, channels, size, size).

        Returns:
            hidden: (B, 1 + patches, width); place 0 is the class place, then row by row.
            pooled: (B, width), norm_out of place 0.

        Raises:
            ValueError: pictures of another shape.
        """
        check_images(images, self.conv_in.in_channels, self.size)
        patches = self.conv_in(images).flatten(2).transpose(1, 2)  # (B, patches, width)
        first = self.class_vector.expand(len(images), 1, -1)
        x = torch.cat([first, patches], dim=1) + self.positions
        x = self.norm_in(x)
        for layer in self.layers:
            x = layer(x)
        return x, self.norm_out(x[:, 0])


class CLIP(nn.Module):
    """A text encoder and an image encoder, and the way from both into one common space.

    Args:
        text, image: the encoders.
        dim: length of the common vectors.

    Source: Radford et al. 2021, arXiv:2103.00020, section 2 and figure 3.
    """

    def __init__(self, text: TextTransformer, image: ImageEncoder, dim: int = 512):
        super().__init__()
        self.text, self.image = text, image
        self.text_projection = nn.Linear(text.norm.weight.numel(), dim, bias=False)
        self.image_projection = nn.Linear(image.norm_out.weight.numel(), dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, dim), of any length."""
        return self.text_projection(self.text(tokens)[1])

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, channels, size, size) -> (B, dim), of any length."""
        return self.image_projection(self.image(images)[1])

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """The contrastive loss of B pictures and their B texts."""
        loss = full_precision(contrastive_loss)  # logits go up to 100
        return loss(self.encode_images(images), self.encode_texts(tokens), self.logit_scale)


def contrastive_loss(image_features: Tensor, text_features: Tensor, logit_scale: Tensor) -> Tensor:
    """Each picture must find its text among all texts, and each text its picture.

    logits = min(exp(logit_scale), 100) · images · textsᵀ, with all vectors brought to length 1;
    loss = (cross entropy of the rows + cross entropy of the columns) / 2, the right ones being
    those on the diagonal

    Args:
        image_features: (B, D), of any length.
        text_features: (B, D); row i belongs to picture i.
        logit_scale: a scalar, the logarithm of what the similarities are multiplied by.

    Returns:
        a scalar; log(B) where nothing can be told apart.

    Raises:
        ValueError: the shapes do not fit, or something is NaN or infinite.

    Source: Radford et al. 2021, arXiv:2103.00020, figure 3, and section 2.5 for the limit of 100.
    """
    check_features(image_features, text_features, logit_scale)
    if image_features.shape != text_features.shape:
        raise ValueError(
            f"image_features and text_features must have one row a pair, got "
            f"{tuple(image_features.shape)} and {tuple(text_features.shape)}"
        )
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = logit_scale.exp().clamp(max=MAX_SCALE) * images @ texts.T  # (B, B)
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def zero_shot_probabilities(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor
) -> Tensor:
    """Recognise pictures by classes that are only described: which description fits best?

    class = the mean of its descriptions' vectors, each of length 1, brought to length 1 again;
    probabilities = softmax(min(exp(logit_scale), 100) · images · classesᵀ), over the classes

    Args:
        image_features: (B, D), of any length.
        text_features: (K, P, D): each of K classes described in P ways.
        logit_scale: a scalar, the logarithm of what the similarities are multiplied by.

    Returns:
        (B, K); each row sums to 1.

    Raises:
        ValueError: the shapes do not fit, or something is NaN or infinite.

    Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.
    """
    check_features(image_features, text_features, logit_scale)
    if text_features.ndim != 3 or not text_features.shape[1]:
        raise ValueError(f"text_features must be (K, P, D), got {tuple(text_features.shape)}")
    images = F.normalize(image_features, dim=-1)
    classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)  # (K, D)
    logits = logit_scale.exp().clamp(max=MAX_SCALE) * images @ classes.T  # (B, K)
    return logits.softmax(dim=-1)
