"""The shortcut past the text encoder's layers."""

import torch

from t2i.clip import TextTransformer
from t2i.prompt_encoder import PromptEncoder
from t2i.text_to_image import encode_prompt


def encoder(layers: int = 2) -> TextTransformer:
    torch.manual_seed(0)
    return TextTransformer(20, 19, width=12, num_layers=layers, num_heads=2, max_length=6).eval()


def test_each_tokens_embedding_is_added_at_the_length_of_a_norm():
    text = encoder()
    tokens = torch.tensor([[18, 3, 4, 19, 19, 19], [18, 4, 4, 4, 19, 19]])
    with torch.no_grad():
        context, pooled = PromptEncoder(text)(tokens)
        hidden, wanted = text(tokens)
    words = text.tokens.weight[tokens]
    centred = words - words.mean(-1, keepdim=True)
    unit = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(context - hidden, unit)
    torch.testing.assert_close(pooled, wanted, rtol=0, atol=0)


def test_words_stay_apart_where_the_layers_forget_them():
    text = encoder(1)
    with torch.no_grad():
        text.norm.weight.zero_()  # every vector of the encoder is the same now
        context = PromptEncoder(text)(torch.tensor([[18, 3, 7, 9, 19, 19]]))[0][0]
    apart = torch.cdist(context[:4], context[:4])[~torch.eye(4, dtype=bool)]
    assert apart.min() > 1


def test_it_reads_prompts_as_the_encoder_does():
    text = encoder()
    tokenizer = lambda prompts, length: torch.tensor([[18, 3, 19, 19, 19, 19]] * len(prompts))  # noqa: E731
    with torch.no_grad():
        read = encode_prompt(tokenizer, PromptEncoder(text), ["x", "y"])
        plain = encode_prompt(tokenizer, text, ["x", "y"])
    assert torch.equal(read.mask, plain.mask) and torch.equal(read.pooled, plain.pooled)
    assert read.context.shape == (2, 6, 12) and not torch.equal(read.context, plain.context)
