"""Hidden tests of lesson 7: CLIP text encoding.

Tokens, encoders and losses are compared with transformers' own. Where an exercise runs the
learner's other pieces, it is judged by calling those same pieces from here, one by one: a mistake
in quick_gelu costs the points of quick_gelu and no others.
"""

import math
from collections import Counter
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
)
from transformers.activations import ACT2FN
from transformers.models.clip import modeling_clip

from autograder import testing_modules
from autograder.remote import Handle
from autograder.testing import exercise, expect, expect_close, fail, matches
from autograder.testing_modules import (
    IN_PLACE,
    OTHER_PIECES,
    PIECE_STOPS,
    UNLEARNT,
    Parts,
    ask,
    check_with_ours,
    every_parameter_learns,
    expect_gradients,
    load,
    normal,
    runs,
    unchanged,
)
from autograder.wire import Foreign
from t2i import clip
from t2i.bpe import Tokenizer, merge_pair, train_bpe
from t2i.byte_words import split_words, start_pieces
from t2i.pretrained.clip_names import from_transformers

CLOSE = {"rtol": 1e-4, "atol": 2e-5}
GRADIENT_HINTS = {
    "does not require grad": f"The result has no gradient at all. {UNLEARNT}",
    **IN_PLACE,
}
_LOSSES = ("image_text_contrastive_loss", "clip_loss")  # newer and older releases
their_loss = next(getattr(modeling_clip, name) for name in _LOSSES if hasattr(modeling_clip, name))
shuffled = partial(testing_modules.shuffled, gain=1.2)


def draw_int(rng: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high, (1,), generator=rng))


def draw_texts(rng: torch.Generator, count: int, letters: str = "abcdü") -> list[str]:
    """Short texts of few letters, so that pairs come again and again."""
    texts = []
    for _ in range(count):
        words = []
        for _ in range(draw_int(rng, 1, 6)):
            size = draw_int(rng, 1, 6)
            picks = torch.randint(len(letters), (size,), generator=rng).tolist()
            words.append("".join(letters[pick] for pick in picks))
        texts.append(" ".join(words))
    return texts


# --- train_bpe ------------------------------------------------------------------------------------


def learn(texts: list[str], num_merges: int, wrong: str = "") -> list[tuple[str, str]]:
    """train_bpe; `wrong` makes one well-known mistake."""
    texts = ["".join(texts)] if wrong == "texts glued" else texts
    split = {"not cleaned": str.split, "lower case alone": lambda text: text.lower().split()}
    split = split.get(wrong, split_words)
    words = (set(split(text)) if wrong == "once a text" else split(text) for text in texts)
    counts = Counter(word for each in words for word in each)
    pieces = {word: list(start_pieces(word)) for word in counts}
    if wrong == "no word end":
        pieces = {word: [p.removesuffix("</w>") for p in parts] for word, parts in pieces.items()}
    if wrong == "letters":
        pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in counts}
    if wrong == "across words":
        rows = [[p for w in split_words(text) for p in start_pieces(w)] for text in texts]
        pieces, counts = dict(enumerate(rows)), Counter(range(len(rows)))
    merges: list[tuple[str, str]] = []
    while len(merges) < num_merges + (wrong == "one too many"):
        pairs: Counter = Counter()
        for word, parts in pieces.items():
            found = list(zip(parts, parts[1:], strict=False))
            for pair in set(found) if wrong == "once a word" else found:
                pairs[pair] += 1 if wrong == "words once" else counts[word]
        if wrong == "seen once left out":
            pairs = Counter({pair: n for pair, n in pairs.items() if n > 1})
        if not pairs:
            break
        if wrong == "ties first seen":
            best = max(pairs, key=pairs.get)
        elif wrong == "ties last":
            best = max(pairs, key=lambda pair: (pairs[pair], pair))
        elif wrong == "rarest":
            best = min(pairs, key=lambda pair: (pairs[pair], pair))
        else:
            best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        if wrong == "never joined" and len(merges) >= len(pairs):
            break
        if wrong != "never joined":
            pieces = {word: list(merge_pair(parts, best)) for word, parts in pieces.items()}
    return merges[1:] if wrong == "first lost" else merges


TRAIN_MISTAKES = {
    "words once": "Each different word is counted once; a word that occurs 500 times counts 500 "
    "times: add counts[word] to each of its pairs.",
    "once a text": "A word that stands twice in one text is counted once there; each place counts.",
    "lower case alone": "Lower case is not enough: split_words(text) also parts words from signs.",
    "once a word": "A pair that stands twice in one word is counted once there; each place counts.",
    "ties last": "Among equally frequent pairs you take the last one in sorted order; it is the "
    "first one: min with the key (-count, pair).",
    "ties first seen": "Among equally frequent pairs you take the one that was met first; it is "
    "the first one in sorted order: min with the key (-count, pair).",
    "rarest": "You join the rarest pair; it is the most frequent one.",
    "across words": "Pairs are counted across the border of two words; each word stands alone.",
    "no word end": "The mark </w> at a word's end is missing: begin with start_pieces(word).",
    "not cleaned": "The words are not cleaned and cut as CLIP does it: use split_words(text) in "
    "place of text.split().",
    "letters": "Words are cut into letters; the smallest symbols are bytes: start_pieces(word).",
    "texts glued": "The texts are glued together, and so the last word of one and the first of the "
    "next become one word: split each text by itself.",
    "never joined": "The chosen pair is never joined in the words, so later merges cannot build "
    "on it: words = {word: merge_pair(pieces, best) …}.",
    "one too many": "One merge too many is learnt: num_merges of them, no more.",
    "first lost": "The first merge is missing from what you return.",
    "seen once left out": "Pairs that occur only once are left out; go on until every word is one "
    "piece, or num_merges are learnt.",
}
TRAIN_HINTS = {
    "empty": "When every word is one piece there is no pair left: stop before you ask for the "
    "most frequent one.",
    "changed size": "A dictionary is changed while a loop runs over it: make a new one.",
    "KeyError": "Use a Counter: what was never counted is 0 there.",
    "": "",
}


def check_training(student, texts: list[str], num_merges: int) -> None:
    expected = learn(texts, num_merges)
    actual = ask(lambda: student.train_bpe(texts, num_merges), TRAIN_HINTS)
    if actual is None:
        fail("Your code returned None where the merges should be. Is a return statement missing?")
    if isinstance(actual, dict):
        fail("The merges should be a list of pairs, in the order in which they were learnt.")
    if isinstance(actual, Handle | Foreign | str | int | float | Tensor):
        fail("The merges should be a list of pairs of texts, like [('l', 'o'), …].")
    try:
        pairs = [tuple(pair) for pair in actual]
    except TypeError:
        fail("The merges should be a list of pairs of texts, like [('l', 'o'), …].")
    if pairs == expected:
        return
    if any(not isinstance(piece, str) for pair in pairs for piece in pair):
        fail(
            "The merges should be a list of pairs of texts, like [('l', 'o'), …], and nothing "
            "else beside it."
        )
    if [("".join(pair)) for pair in expected] == ["".join(pair) for pair in actual]:
        fail("Each merge should be a pair of two pieces, not the piece that comes out of it.")
    for wrong, sentence in TRAIN_MISTAKES.items():
        if pairs == learn(texts, num_merges, wrong):
            fail(sentence)
    if len(pairs) < len(expected) and pairs == expected[: len(pairs)]:
        fail("Too few merges come out: go on until num_merges are learnt or no pair is left.")
    if len(pairs) > len(expected) and pairs[: len(expected)] == expected:
        fail("Too many merges come out: num_merges at most, and none when no pair is left.")
    same = next(i for i, (a, b) in enumerate(zip(pairs, expected, strict=False)) if a != b)
    fail(
        f"The merges differ from number {same + 1} on. Count the pairs anew in each round, from "
        "the pieces of the moment, each word as often as it occurs; of equals take the first in "
        "sorted order; and join the chosen pair with merge_pair, everywhere in every word."
    )


@exercise("train_bpe")
def test_training_counts_words_as_often_as_they_occur(student, rng):
    rare = draw_texts(rng, 4, "xyz")
    check_training(student, ["low low low lower", "newest newest", "low", *rare], 12)


@exercise("train_bpe")
def test_training_on_random_texts(student, rng):
    check_training(student, draw_texts(rng, 30), 25)
    check_training(student, [text.title() + "!" for text in draw_texts(rng, 9, "abü")], 14)


@exercise("train_bpe")
def test_training_settles_ties_and_stops(student, rng):
    check_training(student, ["ba", "ab", "cd dc"], 9)
    check_training(student, ["aaaa aa", "", "b"], 9)
    check_training(student, draw_texts(rng, 5), 1000)
    check_training(student, draw_texts(rng, 5), 0)
    check_training(student, ["a b c"], 3)


# --- Tokenizer.encode -----------------------------------------------------------------------------


def longest_pieces(tokenizer: Tokenizer, symbols: tuple[str, ...]) -> list[str]:
    """A word cut from the left, each time as long a piece as the vocabulary has."""
    pieces, place = [], 0
    while place < len(symbols):
        ends = range(len(symbols), place, -1)
        end = next(e for e in ends if "".join(symbols[place:e]) in tokenizer.vocabulary)
        pieces.append("".join(symbols[place:end]))
        place = end
    return pieces


def write(tokenizer: Tokenizer, text: str, length: int | None, wrong: str = "") -> list[int]:
    """Tokenizer.encode; `wrong` makes one well-known mistake."""
    known, numbers = tokenizer.ranks, []
    words = text.split() if wrong == "not cleaned" else split_words(text)
    for word in words:
        pieces = start_pieces(word)
        if wrong == "longest piece":
            pieces = longest_pieces(tokenizer, pieces)
        while found := [p for p in zip(pieces, pieces[1:], strict=False) if p in known]:
            if wrong in ("never merged", "longest piece"):
                break
            pick = min(found, key=known.get)
            if wrong == "left to right":
                pick = found[0]
            elif wrong == "latest first":
                pick = max(found, key=known.get)
            elif wrong == "longest first":
                pick = max(found, key=lambda pair: len(pair[0] + pair[1]))
            pieces = merge_pair(pieces, pick)
            if wrong == "one merge":
                break
        numbers += [tokenizer.vocabulary.get(piece, -1) for piece in pieces]
    start = [] if wrong == "no start" else [tokenizer.start]
    end = [] if wrong == "no end" else [tokenizer.end]
    if length is None:
        return start + numbers + end
    room = length - len(start) - len(end)
    if wrong == "cut at length":
        numbers = numbers[:length]
    elif wrong == "one place lost":
        numbers = numbers[: room - 1]
    elif wrong == "cut at the front":
        numbers = numbers[max(0, len(numbers) - room) :]
    elif wrong not in ("end cut off", "not cut"):
        numbers = numbers[:room]
    row = start + numbers + end
    row = row if wrong == "not cut" else row[:length] if wrong == "end cut off" else row
    fill = {"zeros": 0, "starts": tokenizer.start}.get(wrong, tokenizer.end)
    if wrong == "not filled":
        return row
    if wrong == "filled in front":
        return [fill] * (length - len(row)) + row
    if wrong == "end at the end":
        return start + numbers + [0] * (length - 2 - len(numbers)) + end
    return row + [fill] * (length - len(row))


ENCODE_MISTAKES = {
    "never merged": "The pieces are never merged: join known pairs until none is left.",
    "one merge": "Each word gets one merge only: repeat until no known pair is left.",
    "left to right": "The first known pair from the left is joined; it must be the one that was "
    "learnt first, the lowest rank.",
    "latest first": "The pair that was learnt last is joined first; it must be the lowest rank.",
    "longest first": "The longest pair is joined first; it must be the one that was learnt first.",
    "longest piece": "From the left, the longest piece of the vocabulary is taken; the pieces are "
    "made by joining, always the pair that was learnt first, the lowest rank.",
    "not cleaned": "The text is not cleaned and cut as CLIP does it: use split_words(text).",
    "no start": "The start's number is missing at the front.",
    "end cut off": "A text that is too long loses its end token; keep length - 2 pieces, so that "
    "start and end have room.",
    "no end": "The end's number is missing behind the text.",
    "cut at length": "A text that is too long gives too many numbers: start and end count too, so "
    "length - 2 pieces have room.",
    "not cut": "A text that is too long is not cut: keep length - 2 of its pieces.",
    "one place lost": "One piece too many is cut off: length - 2 pieces have room.",
    "cut at the front": "A long text is cut at its front; it is cut at its end.",
    "not filled": "A short text is not filled up: every row has `length` numbers.",
    "filled in front": "The row is filled up in front; it is filled up behind the end.",
    "zeros": "The row is filled up with zeros; CLIP fills up with the end's number, self.end.",
    "starts": "The row is filled up with the start's number; it is the end's, self.end.",
    "end at the end": "The end stands in the last place, behind the padding; it stands directly "
    "behind the text, and fills the rest.",
}
ENCODE_HINTS = {
    "must be a str": "",
    "KeyError": "A piece is not in self.vocabulary: look up the merged pieces, each by itself, "
    "and with its </w>.",
    "argument is an empty": "min has nothing to choose from where no known pair is left: stop.",
    "": "",
}


def _tokenizers(rng: torch.Generator) -> tuple[Tokenizer, CLIPTokenizer]:
    texts = draw_texts(rng, 30) + ["lower newest low", "ünd abc abd"]
    tokenizer = Tokenizer(train_bpe(texts, 60))
    theirs = CLIPTokenizer(tokenizer.vocabulary, [tuple(pair) for pair in tokenizer.merges])
    return tokenizer, theirs


def check_encoding(student, rng, texts: list[str], lengths: tuple) -> None:
    tokenizer, theirs = _tokenizers(rng)
    mine = student.new("Tokenizer", tokenizer.merges)
    for length in lengths:
        fixed = {"padding": "max_length", "truncation": True, "max_length": length}
        every = theirs(texts, **(fixed if length else {})).input_ids
        found = []
        for text, expected in zip(texts, every, strict=True):
            args = (text,) if length is None else (text, length)
            row = ask(lambda args=args: mine.call("encode", *args), ENCODE_HINTS)
            found.append((text, _row(row), expected))
        _compare_rows(found, tokenizer, length)


def _row(row) -> list[int]:
    if isinstance(row, Tensor):
        row = row.tolist()
    if row is None:
        fail("Your code returned None where the numbers should be. Is a return missing?")
    if not isinstance(row, list | tuple) or any(type(n) is not int for n in row):
        fail("encode should return a list of whole numbers, one a piece.")
    return list(row)


def _compare_rows(found: list, tokenizer: Tokenizer, length: int | None) -> None:
    """Name the mistake that explains every row, not one that agrees with the first by chance."""
    wrong_rows = [each for each in found if each[1] != each[2]]
    if not wrong_rows:
        return
    for wrong, sentence in ENCODE_MISTAKES.items():
        if all(row == write(tokenizer, text, length, wrong) for text, row, _ in found):
            fail(sentence)
    text, row, expected = wrong_rows[0]
    words = expected.index(tokenizer.end) + 1
    just_fits = len(row) == length == len(write(tokenizer, text, None))
    if length is not None and len(row) == length and row[:words] == expected[:words]:
        fail("Behind the end the row is filled up with something else than the end's number.")
    if just_fits and row == [tokenizer.start] + [tokenizer.end] * (len(row) - 1):
        fail(
            "A text that has exactly length - 2 pieces comes out empty. Is a slice like "
            "numbers[:-0] taken? It is empty: numbers[: length - 2] is right for every text."
        )
    if length is not None and len(row) != length:
        fail(f"A row of length {length} was asked for; yours has {len(row)} numbers.")
    ends = (tokenizer.start, tokenizer.end)
    moved = [number in ends for number in row] != [number in ends for number in expected]
    if sorted(row) == sorted(expected) and moved:
        fail("The right numbers come out in the wrong order: start, pieces, end, filling.")
    fail(
        "The numbers differ from those of transformers' CLIPTokenizer. For each word: begin with "
        "start_pieces(word), join the known pair of the lowest rank everywhere in the word, "
        "again and again, and look each piece up in self.vocabulary."
    )


@exercise("Tokenizer.encode")
def test_encoding_keeps_nothing_between_calls(student, rng):
    tokenizer, _ = _tokenizers(rng)
    mine = student.new("Tokenizer", tokenizer.merges)
    text = "low abcdab lower"
    first, again = (ask(lambda: mine.call("encode", text), ENCODE_HINTS) for _ in range(2))
    expect(
        _row(first) == _row(again),
        "The same text gives other numbers the second time: encode keeps something between calls "
        "(a list in the signature or in the class, say). Begin each call with a new list.",
    )
    other = Tokenizer(tokenizer.merges[::-1][:20])
    row = _row(student.new("Tokenizer", other.merges).call("encode", text))
    if row != other.encode(text) and row[1:-1] == _row(first)[1:-1]:
        fail(
            "A second tokenizer with other merges gives the first one's numbers: what is kept must "
            "belong to one tokenizer (self.…), not to the class."
        )


@exercise("Tokenizer.encode")
def test_encoding_as_transformers(student, rng):
    long = "".join("abcdü"[i] for i in torch.randint(5, (240,), generator=rng).tolist())
    texts = ["lower", "low abcdab", long, *draw_texts(rng, 14)]
    check_encoding(student, rng, texts, (None,))


@exercise("Tokenizer.encode")
def test_encoding_of_every_kind_of_text(student, rng):
    texts = ["", " ", "It's LOW,  isn't ÜND 42 it?!", "🦆 赤い七 \n", "zzz newest"]
    check_encoding(student, rng, texts, (None, 9))


@exercise("Tokenizer.encode")
def test_encoding_in_rows_of_one_length(student, rng):
    texts = ["", "low", "low abcdab lower newest ünd", "a b c d", *draw_texts(rng, 4)]
    check_encoding(student, rng, texts, (2, 3, 6, 12))  # six: a b c d just fits


@exercise("Tokenizer.encode")
def test_encoding_leaves_the_tokenizer_as_it_was(student, rng):
    tokenizer, _ = _tokenizers(rng)
    mine = student.new("Tokenizer", tokenizer.merges)
    first, again = (mine.call("encode", "low abcdab lower", 9) for _ in range(2))
    expect(
        list(map(int, first)) == list(map(int, again)),
        "The same text gives other numbers the second time: encode must not change the tokenizer.",
    )


# --- quick_gelu -----------------------------------------------------------------------------------


@exercise("quick_gelu")
def test_quick_gelu(student, rng):
    for shape, dtype in (((3, 5, 7), torch.float32), ((11,), torch.float64)):
        x = 3 * normal(rng, *shape, dtype=dtype)
        expect_close(
            student.quick_gelu(x),
            ACT2FN["quick_gelu"](x),
            "the output of quick_gelu",
            causes={
                "This is the exact GELU; the quick one is x · sigmoid(1.702 x).": F.gelu(x),
                "This is GELU's tanh approximation; the quick one is x · sigmoid(1.702 x).": F.gelu(
                    x, approximate="tanh"
                ),
                "The factor 1.702 is missing: that is SiLU.": F.silu(x),
                "The factor x before the sigmoid is missing.": torch.sigmoid(1.702 * x),
                "The factor 1.702 stands outside the sigmoid; it belongs inside.": 1.702
                * x
                * torch.sigmoid(x),
                "There is a tanh where the sigmoid belongs.": x * torch.tanh(1.702 * x),
                "The factor is not 1.702; are two of its figures exchanged?": x
                * torch.sigmoid(1.072 * x),
                "The factor is 1.7; CLIP's is 1.702, and its layers add the difference up.": x
                * torch.sigmoid(1.7 * x),
                "The sign inside the sigmoid is wrong.": x * torch.sigmoid(-1.702 * x),
                "1.702 stands outside and inside.": 1.702 * x * torch.sigmoid(1.702 * x),
            },
            otherwise="Compare with x · sigmoid(1.702 · x).",
            rtol=1e-5,
            atol=1e-6,
            check_dtype=True,
        )
    unchanged(student, student.quick_gelu, normal(rng, 4, 3), "x")


@exercise("quick_gelu")
def test_quick_gelu_far_out(student, rng):
    x = torch.tensor([-200.0, -60.0, 60.0, 200.0])
    expect_close(
        student.quick_gelu(x),
        ACT2FN["quick_gelu"](x),
        "quick_gelu far out",
        otherwise="exp of a large number is infinite, and infinity / infinity is NaN: "
        "torch.sigmoid knows how.",
        atol=1e-6,
    )


@exercise("quick_gelu")
def test_quick_gelu_carries_gradients(student, rng):
    x = 2 * normal(rng, 5, 3)
    leaf = x.clone().requires_grad_()
    ACT2FN["quick_gelu"](leaf).sum().backward()
    expect_gradients(student, "quick_gelu", {"x": x}, {"x": leaf.grad})


# --- TextTransformer.forward and ImageEncoder.forward ---------------------------------------------


def new(student, rng, name: str, *args, **kwargs) -> tuple[Handle, dict[str, Tensor]]:
    """A learner's module with random weights everywhere, and these weights."""
    module = ask(lambda: student.new(name, *args, **kwargs), {"": OTHER_PIECES})
    module.eval()
    state = shuffled(module.state(), rng)
    for name in ("tokens.weight", "positions"):  # large, so that their mistakes show
        if name in state:
            state[name] = normal(rng, *state[name].shape)
    module.load_state(state)
    return module, state


def all_learn(gradients: dict, what: str) -> None:
    """Every parameter but a key's bias, which a softmax cannot feel, and what quick_gelu teaches.

    quick_gelu has an exercise of its own.
    """
    idle = ("to_k.bias", "norm2.weight", "norm2.bias", "fc1.weight", "fc1.bias")
    felt = {k: v for k, v in gradients["params"].items() if not k.endswith(idle)}
    every_parameter_learns({"params": felt}, what)


def learn_alike(student, rng, name: str, args: tuple, inputs: Tensor) -> None:
    """Compare the gradients of an encoder without layers: all of hidden's and all of pooled's."""
    module, state = new(student, rng, name, *args)
    found = ask(lambda: module.grad(inputs), GRADIENT_HINTS)["params"]
    ours = getattr(clip, name)(*args)
    ours.load_state_dict(state)
    total = sum(
        (part.flatten() * torch.linspace(-1, 1, part.numel())).sum() for part in ours(inputs)
    )
    total.backward()
    for weight, right in ours.named_parameters():
        expect(isinstance(found[weight], Tensor), f"No gradient reaches {weight}.")
        expect_close(
            found[weight],
            right.grad,
            f"the gradient for {weight}",
            otherwise="hidden and pooled may be right, but a gradient must reach the weights "
            "through both: no detach(), .data or no_grad() round pooled, which alone is trained.",
            **CLOSE,
        )


def their_layer(model: torch.nn.Module, x: Tensor) -> Tensor:
    """The first layer of transformers' encoder, wherever the release at hand keeps it."""
    for half in ("text_model", "vision_model"):
        model = getattr(model, half, model)
    found = model.encoder.layers[0](x, None)
    return (found[0] if isinstance(found, tuple) else found).detach()


def two_results(answer: object, what: str) -> tuple:
    """What forward gave, as a pair of tensors."""
    if answer is None:
        fail(f"Your code returned None where {what} should be. Is a return statement missing?")
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        fail(f"forward should return two things: {what}.")
    return tuple(answer)


def sentences(rng: torch.Generator, batch: int, length: int, end: int, size: int) -> Tensor:
    """Random tokens; each row ends at another place and is filled up with the end token."""
    tokens = torch.randint(size - 1, (batch, length), generator=rng)
    tokens += (tokens >= end).long()  # never the end token by chance
    for row in range(batch):
        tokens[row, length - 1 - (2 * row + 1) % (length - 1) :] = end
    return tokens


def read(parts: Parts, state: dict, config, tokens: Tensor, wrong: str = "") -> tuple:
    """TextTransformer.forward through the learner's layers; `wrong` makes one mistake."""
    layers, end_token = config
    batch, length = tokens.shape
    positions = state["positions"]
    x = parts("tokens", tokens)
    if wrong == "last positions":
        x = x + positions[-length:]
    elif wrong == "one position":
        x = x + positions[0]
    elif wrong == "scaled tokens":
        x = x * x.shape[-1] ** 0.5 + positions[:length]
    elif wrong != "no positions":
        x = x + positions[:length]
    square = torch.ones(length, length, dtype=torch.bool)
    mask = {
        "ahead": square.triu(),
        "inverted": ~square.tril(),
        "strict": square.tril(-1),
        "one ahead": square.tril(1),
        "everything": square,
        "float": square.tril().float(),
    }.get(wrong, square.tril())
    given = () if wrong == "no mask" else (mask,)
    start = x
    order = {"backwards": range(layers - 1, -1, -1), "first layer": range(1), "no layers": ()}
    for i in order.get(wrong, range(layers)):
        x = parts(f"layers.{i}", start if wrong == "side by side" else x, *given)
    x = start + x if wrong == "inner sum" else x
    hidden = x if wrong == "no norm" else parts("norm", x)
    is_end = tokens == end_token
    place = {
        "last place": torch.full((batch,), length - 1),
        "first place": torch.zeros(batch, dtype=torch.long),
        "largest token": tokens.argmax(dim=1),
        "before the end": is_end.int().argmax(dim=1) - 1,
        "last end": length - 1 - is_end.flip(1).int().argmax(dim=1),
    }.get(wrong, is_end.int().argmax(dim=1))
    source = x if wrong == "pooled without norm" else hidden
    pooled = source[torch.arange(batch), place]
    if wrong == "mean":
        pooled = hidden.mean(dim=1)
    if wrong == "mean of words":
        kept = (is_end.cumsum(1) <= 1)[..., None]
        pooled = (hidden * kept).sum(1) / kept.sum(1)
    if wrong == "same row":
        pooled = hidden[0, place]
    if wrong == "one place":
        pooled = hidden[:, place[0]]
    return (x if wrong == "hidden without norm" else hidden), pooled


HIDDEN_MISTAKES = {
    "no positions": "The places' vectors are missing: tokens + self.positions[:length].",
    "last positions": "The last places' vectors are added; text begins at place 0: "
    "self.positions[:length].",
    "one position": "Every token gets the vector of place 0; token i gets that of place i.",
    "scaled tokens": "The tokens' vectors are scaled before the places' are added; CLIP adds them "
    "as they are.",
    "no mask": "The mask is missing: a token must not look ahead. Hand it to every layer.",
    "everything": "The mask lets every token look at all others; only itself and those before it.",
    "ahead": "The mask is the wrong way round: row i may look at the columns 0 to i (tril), not "
    "at those behind it (triu).",
    "inverted": "The mask is inverted: True means look at this token.",
    "strict": "The mask forbids a token to look at itself; the diagonal is allowed (tril()).",
    "one ahead": "The mask lets each token look one place ahead; tril() without a number is right.",
    "float": "The mask is made of numbers; ones and zeros are added to the scores. It must be "
    "bool: dtype=torch.bool.",
    "backwards": "The layers run in the wrong order, the last one first.",
    "first layer": "Only the first layer runs.",
    "no layers": "The layers do not run.",
    "side by side": "Every layer reads the x of the beginning; each must read what the one before "
    "it left.",
    "inner sum": "x is added once more after the layers; they have their own sums.",
    "no norm": "The last norm is missing: hidden = self.norm(x).",
    "hidden without norm": "hidden is returned without the last norm.",
}
POOLED_MISTAKES = {
    "last place": "pooled is the vector of the last place of the row; it is that of the *first* "
    "end token.",
    "last end": "pooled is taken at the last end token; it is the first one that counts.",
    "first place": "pooled is the vector of place 0; that is the class place of pictures. Texts "
    "are summed up by their first end token. (Is another number looked for than self.end_token? "
    "Where it is nowhere, argmax gives 0.)",
    "one place": "All texts are read at the place where the first one ends; each row has an end of "
    "its own: hidden[torch.arange(batch), end].",
    "largest token": "The end token is looked for as the largest number of the row; it need not be "
    "the largest: compare with self.end_token.",
    "before the end": "pooled is taken one place before the end token.",
    "pooled without norm": "pooled is taken before the last norm; it is a row of hidden.",
    "mean": "pooled is the mean of all places; it is the vector of the first end token.",
    "mean of words": "pooled is a mean; it is the vector of the first end token.",
    "same row": "All pooled vectors come from the first text: pick place end[i] in row i, "
    "hidden[torch.arange(batch), end].",
}
READ_HINTS = {
    "scaled_dot_product_attention": "The mask does not fit: it is bool and (L, L), with the L of "
    "these tokens (not max_length, not the batch), made anew in each call.",
    "must match the size": "Texts may be shorter than max_length: self.positions[:length].",
    "does not support bool": "argmax wants numbers: (tokens == self.end_token).int().argmax(dim=1) "
    "is the first end token of each row.",
    "must match the existing size": "The mask is (L, L), with the L of these tokens.",
    "index": "To pick one place a row: hidden[torch.arange(batch), end], where end has one number "
    "a row: argmax(dim=1).",
    "": OTHER_PIECES,
}


def check_reader(student, rng, vocabulary, end, width, layers, heads, most, batch, length):
    reader, state = new(
        student, rng, "TextTransformer", vocabulary, end, width, layers, heads, most, 2 * width
    )
    parts, config = Parts(reader), (layers, end)
    tokens = sentences(rng, batch, length, end, vocabulary)
    if not runs(lambda: read(parts, state, config, tokens)):
        fail(PIECE_STOPS)
    expected = read(parts, state, config, tokens)
    answer = two_results(ask(lambda: reader(tokens), READ_HINTS), "hidden and pooled")
    if isinstance(answer[0], Tensor) and answer[0].shape == expected[1].shape != expected[0].shape:
        fail("The results come in the wrong order: hidden first, then pooled.")
    if isinstance(answer[1], Tensor) and answer[1].shape == (batch, batch, width):
        fail(
            "pooled holds B vectors of every text, (B, B, D): hidden[:, places] takes all places "
            "from all rows. Index rows and places together: row i gives its own place."
        )

    def causes(mistakes: dict, place: int) -> dict:
        return {
            sentence: (lambda wrong=wrong: read(parts, state, config, tokens, wrong)[place])
            for wrong, sentence in mistakes.items()
        }

    expect_close(
        answer[0],
        expected[0],
        "hidden (compared with your own layers called in the right order)",
        causes=causes(HIDDEN_MISTAKES, 0),
        otherwise="The order is: tokens plus positions, every layer with the causal mask, norm.",
        **CLOSE,
    )
    expect_close(
        answer[1],
        expected[1],
        "pooled",
        causes=causes(POOLED_MISTAKES, 1),
        otherwise="It is the row of hidden at the first place where tokens == self.end_token.",
        **CLOSE,
    )
    shorter = sentences(rng, batch, length - 2, end, vocabulary)
    again = two_results(ask(lambda: reader(shorter), READ_HINTS), "hidden and pooled")
    expect_close(
        again[1],
        read(parts, state, config, shorter)[1],
        "pooled of shorter texts, read after longer ones",
        otherwise="Nothing may be kept from one call to the next.",
        **CLOSE,
    )
    unchanged(student, reader, tokens, "tokens")


@exercise("TextTransformer.forward")
def test_reader_with_one_layer(student, rng):
    check_reader(student, rng, 23, 22, 8, 1, 2, 9, 3, 9)


@exercise("TextTransformer.forward")
def test_reader_with_short_texts_and_any_end_token(student, rng):
    check_reader(student, rng, 30, 11, 12, 2, 3, 11, 4, 7)


@exercise("TextTransformer.forward")
def test_reader_with_one_text(student, rng):
    check_reader(student, rng, 15, 9, 8, 1, 2, 8, 1, 6)


def compare_with(
    theirs: torch.nn.Module,
    mine: Handle,
    inputs: Tensor,
    rng: torch.Generator,
    ours: torch.nn.Module,
    hints: dict[str, str],
) -> None:
    """A learner's encoder of width 12 beside transformers', with the weights of theirs.

    With layers of ours where the learner's are wrong: their mistakes are told elsewhere.
    """
    state, name = from_transformers(theirs.state_dict()), type(ours).__name__
    ours.load_state_dict(state)
    load(mine, state)
    x = normal(rng, 2, 5, 12)
    own = ask(lambda: Parts(mine)("layers.0", x), {"": PIECE_STOPS})
    if not matches(own, their_layer(theirs, x), **CLOSE):
        layers = [f"layers.{number}" for number in range(len(ours.layers))]
        return check_with_ours(mine, ours, layers, inputs)
    expected = theirs(inputs)
    found = two_results(ask(lambda: mine(inputs), hints), "hidden and pooled")
    right = (expected.last_hidden_state, expected.pooler_output)
    for part, actual, wanted in zip(("hidden", "pooled"), found, right, strict=True):
        expect_close(
            actual,
            wanted.detach(),
            f"{part} with the weights of transformers' {type(theirs).__name__}",
            otherwise=f"Every layer is right by itself, so it is the wiring of {name}.",
            **CLOSE,
        )


@exercise("TextTransformer.forward")
def test_reader_same_as_transformers(student, rng):
    config = CLIPTextConfig(
        vocab_size=40,
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=10,
        bos_token_id=38,
        eos_token_id=39,
        pad_token_id=39,
    )
    theirs = testing_modules.shuffle_weights(CLIPTextModel(config), rng, 1.2)
    size = (40, 39, 12, 2, 2, 10, 24)
    reader = ask(lambda: student.new("TextTransformer", *size), IN_PLACE)
    ours = clip.TextTransformer(*size)
    compare_with(theirs, reader, sentences(rng, 3, 10, 39, 40), rng, ours, READ_HINTS)


@exercise("TextTransformer.forward")
def test_reader_learns(student, rng):
    reader, _ = new(student, rng, "TextTransformer", 9, 8, 8, 1, 2, 5, 16)
    tokens = torch.tensor([[0, 1, 2, 8, 8], [3, 4, 5, 6, 8], [7, 8, 8, 8, 8]])
    all_learn(ask(lambda: reader.grad(tokens), GRADIENT_HINTS), "the text encoder")
    learn_alike(student, rng, "TextTransformer", (9, 8, 8, 0, 2, 5, 16), tokens)


def view(parts: Parts, state: dict, layers: int, images: Tensor, wrong: str = "") -> tuple:
    """ImageEncoder.forward through the learner's layers; `wrong` makes one mistake."""
    patches = parts("conv_in", images)  # (B, W, rows, columns)
    batch, width = patches.shape[:2]
    if wrong == "reshape":
        patches = patches.reshape(batch, -1, width)
    elif wrong == "columns first":
        patches = patches.transpose(2, 3).flatten(2).transpose(1, 2)
    else:
        patches = patches.flatten(2).transpose(1, 2)
    first = state["class_vector"].expand(batch, 1, -1)
    first = torch.zeros_like(first) if wrong == "class of zeros" else first
    positions = state["positions"]
    if wrong == "positions for patches":
        x = torch.cat([first, patches + positions[1:]], dim=1)
    elif wrong == "class last":
        x = torch.cat([patches, first], dim=1) + positions
    elif wrong == "no positions":
        x = torch.cat([first, patches], dim=1)
    elif wrong == "norm before positions":
        x = parts("norm_in", torch.cat([first, patches], dim=1)) + positions
    else:
        x = torch.cat([first, patches], dim=1) + positions
    if wrong not in ("no norm_in", "norm before positions"):
        x = parts("norm_out" if wrong == "norms exchanged" else "norm_in", x)
    start = x
    order = {"backwards": range(layers - 1, -1, -1), "first layer": range(1), "no layers": ()}
    length = x.shape[1]
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    for i in order.get(wrong, range(layers)):
        given = (mask,) if wrong == "causal" else ()
        x = parts(f"layers.{i}", start if wrong == "side by side" else x, *given)
    last = "norm_in" if wrong == "norms exchanged" else "norm_out"
    place = {"last place": -1, "class last": -1, "second place": 1}.get(wrong, 0)
    pooled = x[:, place] if wrong == "pooled without norm" else parts(last, x[:, place])
    if wrong == "mean":
        pooled = parts(last, x.mean(dim=1))
    if wrong == "mean of patches":
        pooled = parts(last, x[:, 1:].mean(dim=1))
    hidden = parts(last, x) if wrong == "hidden normed" else x
    hidden = x[:, 1:] if wrong == "hidden without class" else hidden
    return hidden, pooled


VIEW_MISTAKES = {
    "reshape": "(B, W, rows, columns) became (B, patches, W) by a plain reshape, which mixes "
    "channels with places: flatten(2).transpose(1, 2).",
    "columns first": "The patches are listed column by column; they go row by row.",
    "class last": "The class vector stands behind the patches; it stands in front.",
    "class of zeros": "The class place holds zeros; it holds self.class_vector.",
    "no positions": "The places' vectors are missing: + self.positions.",
    "positions for patches": "The class place gets no place's vector; add self.positions after "
    "putting the class vector in front.",
    "norm before positions": "norm_in comes before the positions are added; it comes after.",
    "no norm_in": "norm_in is missing before the layers.",
    "norms exchanged": "norm_in and norm_out have changed places.",
    "causal": "The layers got a causal mask; patches may all look at each other.",
    "backwards": "The layers run in the wrong order, the last one first.",
    "first layer": "Only the first layer runs.",
    "no layers": "The layers do not run.",
    "side by side": "Every layer reads the x of the beginning; each must read what the one before "
    "it left.",
    "hidden normed": "hidden went through norm_out; only the pooled vector does.",
    "hidden without class": "hidden lacks the class place: return the whole list.",
}
LOOK_MISTAKES = {
    "pooled without norm": "pooled did not go through norm_out.",
    "last place": "pooled is taken at the last place; the class place is number 0.",
    "second place": "pooled is taken at place 1, the first patch; the class place is number 0.",
    "mean": "pooled is the mean of all places; it is norm_out of the class place.",
    "mean of patches": "pooled is the mean of the patches; it is norm_out of the class place.",
}
VIEW_HINTS = {
    "Sizes of tensors must match": "The list of patches is (B, patches, width): "
    "flatten(2).transpose(1, 2). The class vector has to be as many as pictures: "
    "self.class_vector.expand(len(images), 1, -1).",
    "must match the size": "There is one place more than patches: the class vector comes in front "
    "before the positions are added.",
    "": OTHER_PIECES,
}


def check_viewer(student, rng, size, patch, width, layers, heads, channels, batch):
    args = (size, patch, width, layers, heads, 2 * width, channels)
    viewer, state = new(student, rng, "ImageEncoder", *args)
    parts, images = Parts(viewer), normal(rng, batch, channels, size, size)
    if not runs(lambda: view(parts, state, layers, images)):
        fail(PIECE_STOPS)
    expected = view(parts, state, layers, images)
    answer = two_results(ask(lambda: viewer(images), VIEW_HINTS), "hidden and pooled")
    if isinstance(answer[0], Tensor) and answer[0].shape == expected[1].shape != expected[0].shape:
        fail("The results come in the wrong order: hidden first, then pooled.")
    for place, name, mistakes, advice in (
        (0, "hidden", VIEW_MISTAKES, "The order is: conv_in, picture to list, class in front, "
         "plus positions, norm_in, every layer."),
        (1, "pooled", LOOK_MISTAKES, "It is norm_out of place 0 of each picture: "
         "x[:, 0], for x[0] is the first picture."),
    ):  # fmt: skip
        expect_close(
            answer[place],
            expected[place],
            f"{name} (compared with your own layers called in the right order)",
            causes={
                sentence: (
                    lambda wrong=wrong, place=place: view(parts, state, layers, images, wrong)[
                        place
                    ]
                )
                for wrong, sentence in mistakes.items()
            },
            otherwise=advice,
            **CLOSE,
        )
    unchanged(student, viewer, images, "images")


@exercise("ImageEncoder.forward")
def test_viewer_with_one_layer(student, rng):
    check_viewer(student, rng, 6, 2, 8, 1, 2, 3, 3)


@exercise("ImageEncoder.forward")
def test_viewer_with_two_layers(student, rng):
    check_viewer(student, rng, 12, 4, 12, 2, 3, 1, 2)


@exercise("ImageEncoder.forward")
def test_viewer_with_one_picture(student, rng):
    check_viewer(student, rng, 4, 2, 8, 1, 2, 3, 1)


@exercise("ImageEncoder.forward")
def test_viewer_same_as_transformers(student, rng):
    config = CLIPVisionConfig(
        image_size=8,
        patch_size=4,
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    theirs = testing_modules.shuffle_weights(CLIPVisionModel(config), rng, 1.2)
    size = (8, 4, 12, 2, 2, 24)
    viewer = ask(lambda: student.new("ImageEncoder", *size), IN_PLACE)
    ours = clip.ImageEncoder(*size)
    compare_with(theirs, viewer, normal(rng, 3, 3, 8, 8), rng, ours, VIEW_HINTS)


@exercise("ImageEncoder.forward")
def test_viewer_learns(student, rng):
    viewer, _ = new(student, rng, "ImageEncoder", 4, 2, 8, 1, 2, 16)
    images = normal(rng, 2, 3, 4, 4)
    all_learn(ask(lambda: viewer.grad(images), GRADIENT_HINTS), "the image encoder")
    learn_alike(student, rng, "ImageEncoder", (4, 2, 8, 0, 2, 16), images)


# --- contrastive_loss -----------------------------------------------------------------------------


def contrast(images: Tensor, texts: Tensor, scale: Tensor, wrong: str = "") -> Tensor:
    """The loss; `wrong` makes one well-known mistake."""
    both = wrong == "normalised over the batch"
    if wrong not in ("not normalised", "texts only", "all as one"):
        images = F.normalize(images, dim=0 if both or wrong == "pictures over the batch" else -1)
    if wrong not in ("not normalised", "images only", "all as one"):
        texts = F.normalize(texts, dim=0 if both or wrong == "texts over the batch" else -1)
    if wrong == "all as one":
        images, texts = images / images.norm(), texts / texts.norm()
    factor = scale.exp().clamp(max=100)
    factor = {
        "no scale": torch.ones(()),
        "no exp": scale,
        "divided": 1 / scale.exp(),
        "no limit": scale.exp(),
        "log of the limit": scale.exp().clamp(max=math.log(100)),
        "lower limit": scale.exp().clamp(1, 100),
        "scale ignored": torch.tensor(1 / 0.07),
        "scale twice": factor**2,
        "limit on the logits": scale.exp(),
    }.get(wrong, factor)
    logits = factor * images @ texts.T
    logits = logits.clamp(max=100) if wrong == "limit on the logits" else logits
    if wrong == "softmax first":
        rows, columns = logits.softmax(1), logits.T.softmax(1)
    elif wrong == "softmax once":
        rows, columns = logits.softmax(1), logits.softmax(1).T
    elif wrong == "softmax of the rows":
        rows, columns = logits.softmax(1), logits.T
    elif wrong == "softmax of the columns":
        rows, columns = logits, logits.T.softmax(1)
    elif wrong == "columns unscaled":
        rows, columns = logits, (logits / factor).T
    else:
        rows, columns = logits, logits.T
    reduction = "sum" if wrong == "summed" else "mean"
    right = torch.arange(len(logits))
    right = torch.full_like(right, min(1, len(right) - 1)) if wrong == "one answer" else right
    losses = [F.cross_entropy(table, right, reduction=reduction) for table in (rows, columns)]
    if wrong == "rows only":
        return losses[0]
    if wrong == "columns only":
        return losses[1]
    if wrong == "not halved":
        return losses[0] + losses[1]
    if wrong == "distance":
        return (images - texts).square().sum(-1).mean()
    if wrong == "diagonal":
        return -logits.diag().mean()
    if wrong == "yes or no":
        return F.binary_cross_entropy_with_logits(logits, torch.eye(len(logits)))
    return (losses[0] + losses[1]) / 2


LOSS_MISTAKES = {
    "lower limit": "The scale has a lower limit, too; only 100 is a limit: a negative logit_scale "
    "is allowed.",
    "not normalised": "The vectors are not brought to length 1: only their directions count.",
    "texts only": "The pictures' vectors are not brought to length 1.",
    "images only": "The texts' vectors are not brought to length 1.",
    "normalised over the batch": "The vectors are normalised over the wrong axis: each row is a "
    "vector, dim=-1.",
    "pictures over the batch": "The pictures' vectors are normalised over the wrong axis: each row "
    "is a vector, dim=-1.",
    "texts over the batch": "The texts' vectors are normalised over the wrong axis: each row is a "
    "vector, dim=-1.",
    "all as one": "All vectors together are brought to length 1, as if they were one: .norm() "
    "without a dim. Each row is a vector: dim=-1.",
    "no scale": "The scale is missing: the cosines are multiplied by exp(logit_scale).",
    "no exp": "The cosines are multiplied by logit_scale itself; it is a logarithm: take exp.",
    "divided": "The cosines are divided by the scale, and should be multiplied by it.",
    "no limit": "The scale has no limit, or one on its logarithm: it is exp(logit_scale) itself "
    "that never exceeds 100.",
    "scale ignored": "logit_scale is not used: 1/0.07 is only where it begins.",
    "scale twice": "The scale is multiplied in twice.",
    "limit on the logits": "The limit of 100 is on the logits; it is the scale that never exceeds "
    "100.",
    "log of the limit": "The limit is log 100; it is exp(logit_scale) that never exceeds 100.",
    "one answer": "All rows have the same right answer; row i's is number i.",
    "rows only": "Only the rows are asked (which text belongs to this picture?). Ask the columns, "
    "too, and take the mean.",
    "columns only": "Only the columns are asked (which picture belongs to this text?). Ask the "
    "rows, too, and take the mean.",
    "not halved": "The two cross entropies are added; take their mean.",
    "summed": "The cross entropies are summed over the batch; take the mean.",
    "columns unscaled": "The columns' table lacks the scale: it is logits.T.",
    "softmax first": "A softmax runs before the cross entropy, which has one inside already: it "
    "takes the logits.",
    "softmax once": "A softmax runs before the cross entropy, which has one inside already: it "
    "takes the logits. ",
    "softmax of the rows": "A softmax runs before the cross entropy of the rows, which has one "
    "inside already: it takes the logits.",
    "softmax of the columns": "A softmax runs before the cross entropy of the columns, which has "
    "one inside already: it takes the logits.",
    "distance": "This is the distance of the pairs alone; without the wrong pairs all vectors may "
    "become equal.",
    "diagonal": "Only the diagonal counts here; the wrong pairs must count against it: cross "
    "entropy.",
    "yes or no": "Each cell is asked by itself, yes or no; a row is one question with B answers: "
    "cross entropy.",
}
LOSS_HINTS = {
    "expected scalar type Long": "The right answers are whole numbers: torch.arange(B).",
    "mat1 and mat2 shapes": "images @ texts.T compares each picture with each text.",
    "": "",
}


def check_loss(student, images: Tensor, texts: Tensor, scale: float) -> None:
    log_scale = torch.tensor(scale, dtype=images.dtype)
    factor = log_scale.exp().clamp(max=100)
    logits = factor * F.normalize(texts, dim=-1) @ F.normalize(images, dim=-1).T
    loss = ask(lambda: student.contrastive_loss(images, texts, log_scale), LOSS_HINTS)

    def explained(wrong: str) -> Tensor:
        """The number of this mistake, if it gives the learner's for other pairs, too."""
        others = (images.flip(0), texts, log_scale)  # one number may agree by chance
        again = torch.as_tensor(student.contrastive_loss(*others))
        expect(matches(again, contrast(*others, wrong), rtol=1e-4, atol=1e-5), "Only by chance.")
        return contrast(images, texts, log_scale, wrong)

    if isinstance(loss, Tensor) and not loss.isfinite().all():
        fail(
            "The contrastive loss is not finite. The logarithm of a softmax is: where a "
            "probability is too small to be told from 0, log gives minus infinity. "
            "F.cross_entropy takes the logits and does both at once."
        )
    expect_close(
        loss,
        their_loss(logits),
        "the contrastive loss",
        causes={
            sentence: (lambda wrong=wrong: explained(wrong))
            for wrong, sentence in LOSS_MISTAKES.items()
        },
        otherwise="Compare with: all vectors to length 1; logits = scale · images · textsᵀ; the "
        "mean of the cross entropies of rows and columns, the right answers on the diagonal.",
        rtol=1e-4,
        atol=1e-5,
    )


@exercise("contrastive_loss")
def test_loss_as_transformers(student, rng):
    lengths = 0.5 + 2 * torch.rand(5, 1, generator=rng)
    check_loss(student, lengths * normal(rng, 5, 7), normal(rng, 5, 7), 1.7)
    check_loss(student, normal(rng, 4, 3, dtype=torch.float64),
               normal(rng, 4, 3, dtype=torch.float64), 2.2)  # fmt: skip


@exercise("contrastive_loss")
def test_loss_of_one_pair_and_of_a_large_scale(student, rng):
    check_loss(student, normal(rng, 6, 4), normal(rng, 6, 4), 6.0)
    check_loss(student, normal(rng, 1, 4), normal(rng, 1, 4), 2.0)
    check_loss(student, normal(rng, 4, 3), normal(rng, 4, 3), -0.8)


@exercise("contrastive_loss")
def test_loss_teaches_both_encoders_and_the_scale(student, rng):
    leaves = {
        "image_features": normal(rng, 5, 6).requires_grad_(),
        "text_features": normal(rng, 5, 6).requires_grad_(),
        "logit_scale": torch.tensor(1.3, requires_grad=True),
    }
    images, texts = (F.normalize(leaves[name], dim=-1) for name in list(leaves)[:2])
    their_loss(leaves["logit_scale"].exp() * texts @ images.T).backward()
    arguments = {name: leaf.detach() for name, leaf in leaves.items()}
    loss = ask(lambda: student.contrastive_loss(*arguments.values()), LOSS_HINTS)
    expect(not isinstance(loss, float), f"The loss is a plain number, no tensor. {UNLEARNT}")
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    expect_gradients(student, "contrastive_loss", arguments, gradients)


@exercise("contrastive_loss")
def test_loss_of_twins_at_the_limit(student, rng):
    same = torch.eye(6)[:4] * (0.5 + torch.rand(4, 1, generator=rng))
    check_loss(student, same, same, 6.0)


@exercise("contrastive_loss")
def test_loss_leaves_its_arguments(student, rng):
    images, texts, scale = normal(rng, 3, 4), normal(rng, 3, 4), torch.tensor(6.0)  # over the limit
    unchanged(student, lambda held: student.contrastive_loss(held, texts, scale), images,
              "image_features")  # fmt: skip
    unchanged(student, lambda held: student.contrastive_loss(images, held, scale), texts,
              "text_features")  # fmt: skip
    unchanged(student, lambda held: student.contrastive_loss(images, texts, held), scale,
              "logit_scale")  # fmt: skip


# --- zero_shot_probabilities ----------------------------------------------------------------------


def recognise(images: Tensor, texts: Tensor, scale: Tensor, wrong: str = "") -> Tensor:
    """The probabilities; `wrong` makes one well-known mistake."""
    factor = scale.exp().clamp(max=100)
    factor = {
        "no scale": torch.ones(()),
        "no exp": scale,
        "divided": 1 / scale.exp(),
        "no limit": scale.exp(),
        "lower limit": scale.exp().clamp(1, 100),
        "scale twice": factor**2,
    }.get(wrong, factor)
    over = 0 if wrong == "pictures over the batch" else -1
    images = images if wrong == "pictures not normalised" else F.normalize(images, dim=over)
    over = 1 if wrong == "over the descriptions" else -1
    each = texts if wrong in ("loud", "not normalised") else F.normalize(texts, dim=over)
    if wrong == "mean of probabilities":
        logits = factor * torch.einsum("bd,kpd->pbk", images, each)
        return logits.softmax(-1).mean(0)
    if wrong == "mean of cosines":
        return (factor * torch.einsum("bd,kpd->bkp", images, each).mean(-1)).softmax(-1)
    if wrong == "best description":
        return (factor * torch.einsum("bd,kpd->bkp", images, each).amax(-1)).softmax(-1)
    if wrong == "sum of cosines":
        return (factor * torch.einsum("bd,kpd->bkp", images, each).sum(-1)).softmax(-1)
    if wrong == "first description":
        classes = each[:, 0]
    elif wrong == "mean over classes":
        classes = F.normalize(each.mean(0), dim=-1)
    else:
        classes = each.mean(1)
        classes = classes if wrong == "not normalised" else F.normalize(classes, dim=-1)
    logits = factor * images @ classes.T
    if wrong == "logits":
        return logits
    if wrong == "sigmoid":
        return logits.sigmoid()
    return logits.softmax(0 if wrong == "over pictures" else -1)


ZERO_MISTAKES = {
    "over the descriptions": "The descriptions are normalised over the wrong axis: F.normalize "
    "takes dim=1 unless told, and that is P here. A vector is the last axis: dim=-1.",
    "pictures over the batch": "The pictures' vectors are normalised over the wrong axis: each row "
    "is a vector, dim=-1.",
    "lower limit": "The scale has a lower limit, too; only 100 is a limit: a negative logit_scale "
    "is allowed.",
    "no limit": "The scale has no limit: exp(logit_scale) never exceeds 100.",
    "scale twice": "The scale is multiplied in twice.",
    "loud": "The descriptions are averaged as they are; each is brought to length 1 first, so that "
    "none speaks louder.",
    "not normalised": "The classes' vectors are never brought to length 1.",
    "mean of cosines": "The mean of the descriptions is not brought to length 1 again.",
    "pictures not normalised": "The pictures' vectors are not brought to length 1.",
    "mean of probabilities": "Probabilities are averaged; average the descriptions' vectors.",
    "best description": "The best description counts alone; the vectors are averaged.",
    "sum of cosines": "The descriptions' cosines are summed; average the vectors.",
    "first description": "Only the first description of each class is used; average all P.",
    "mean over classes": "The mean runs over the classes; it runs over the descriptions, dim=1.",
    "no scale": "The scale is missing: the cosines are multiplied by exp(logit_scale).",
    "no exp": "The cosines are multiplied by logit_scale itself; it is a logarithm: take exp.",
    "divided": "The cosines are divided by the scale, and should be multiplied by it.",
    "over pictures": "The softmax runs over the pictures; each picture's row sums to 1.",
    "logits": "The softmax is missing: each row sums to 1.",
    "sigmoid": "There is a sigmoid where the softmax belongs: each row sums to 1.",
}
ZERO_HINTS = {
    "mat1 and mat2 shapes": "Average over the P descriptions (dim=1) first: then the classes are "
    "(K, D), and images @ classes.T is (B, K).",
    "": "",
}


@exercise("zero_shot_probabilities")
def test_recognition(student, rng):
    for batch, count, ways, dim, scale in (
        (3, 5, 4, 6, 1.5),
        (4, 3, 1, 8, 2.5),
        (2, 3, 6, 5, 6.0),
        (1, 4, 2, 6, 2.0),
        (3, 4, 2, 5, -0.8),
    ):
        images = normal(rng, batch, dim) * (0.5 + torch.rand(batch, 1, generator=rng))
        spread = 1.0 if scale < 5 else 0.15  # over the limit, alike: so that none is certain
        texts = spread * normal(rng, count, ways, dim) + 0.6
        texts = texts * (0.2 + 3 * torch.rand(count, ways, 1, generator=rng))
        log_scale = torch.tensor(scale)
        answer = ask(
            lambda i=images, t=texts, s=log_scale: student.zero_shot_probabilities(i, t, s),
            ZERO_HINTS,
        )
        if isinstance(answer, Tensor) and answer.shape == (batch, count):
            over_pictures, over_classes = answer.sum(0), answer.sum(1)
            if matches(over_pictures, torch.ones(count)) and not matches(
                over_classes, torch.ones(batch)
            ):
                fail(ZERO_MISTAKES["over pictures"])
        expect_close(
            answer,
            recognise(images, texts, log_scale),
            "the probabilities",
            causes={
                sentence: (
                    lambda wrong=wrong, i=images, t=texts, s=log_scale: recognise(i, t, s, wrong)
                )
                for wrong, sentence in ZERO_MISTAKES.items()
            },
            otherwise="Compare with softmax over the classes of scale · images · classesᵀ, a class "
            "being the mean of its descriptions, with length 1 before and after.",
            rtol=1e-4,
            atol=1e-6,
        )


@exercise("zero_shot_probabilities")
def test_recognition_of_what_fits_exactly(student, rng):
    images, scale = torch.eye(6)[:3] * (0.5 + torch.rand(3, 1, generator=rng)), torch.tensor(6.0)
    texts = images[:, None].repeat(1, 2, 1)
    expect_close(
        ask(lambda: student.zero_shot_probabilities(images, texts, scale), ZERO_HINTS),
        recognise(images, texts, scale),
        "the probabilities of pictures that fit exactly",
        otherwise="exp(100) is too large for a float32, and infinity / infinity is NaN: softmax "
        "takes the largest logit away first.",
        rtol=1e-4,
        atol=1e-6,
    )


@exercise("zero_shot_probabilities")
def test_recognition_leaves_its_arguments(student, rng):
    images, texts, scale = normal(rng, 3, 4), normal(rng, 2, 3, 4), torch.tensor(math.log(9.0))
    unchanged(student, lambda held: student.zero_shot_probabilities(images, texts, held), scale,
              "logit_scale")  # fmt: skip
    unchanged(student, lambda held: student.zero_shot_probabilities(held, texts, scale), images,
              "image_features")  # fmt: skip
    unchanged(student, lambda held: student.zero_shot_probabilities(images, held, scale), texts,
              "text_features")  # fmt: skip
