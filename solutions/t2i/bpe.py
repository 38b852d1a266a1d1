"""Lesson 7, first half. Byte-pair encoding: from a text to numbers, as CLIP does it.

    merges = train_bpe(captions, num_merges=200)
    tokenizer = Tokenizer(merges)
    tokenizer.encode("a red seven", length=8)     # [start, a, red, seven, end, end, end, end]
    save_tokenizer(tokenizer, "my_tokenizer")     # vocab.json and merges.txt, as CLIP's

A piece is a text of one or more symbols, each of which stands for a byte (see byte_words), so there
is no text that cannot be written. The piece that ends a word carries the mark `</w>`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from t2i.byte_words import END, START, WORD_END, byte_symbols, split_words, start_pieces
from t2i.files.checkpoint import write_atomically


def merge_pair(pieces: Sequence[str], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join two pieces wherever they stand side by side, from left to right.

    Args:
        pieces: of one word.
        pair: what to join: ("a", "b") turns ("a", "b", "a", "b") into ("ab", "ab").
    """
    merged, place = [], 0
    while place < len(pieces):
        if tuple(pieces[place : place + 2]) == pair:
            merged.append(pair[0] + pair[1])
            place += 2
        else:
            merged.append(pieces[place])
            place += 1
    return tuple(merged)


def train_bpe(texts: Iterable[str], num_merges: int) -> list[tuple[str, str]]:
    """Learn which pieces to join: again and again the two that stand side by side most often.

    Args:
        texts: what to learn from. Each word counts as often as it occurs; nothing is joined across
            the border of two words.
        num_merges: how many pairs to learn, 0 or more; fewer come out where every word is one
            piece already.

    Returns:
        the pairs in the order in which they were learnt. Of pairs that are equally frequent, the
        one that comes first in sorted order.

    Raises:
        ValueError: texts is one text, or num_merges is negative.

    Source: Sennrich, Haddow and Birch 2015, arXiv:1508.07909, algorithm 1.
    """
    check_training(texts, num_merges)
    counts = Counter(word for text in texts for word in split_words(text))
    words = {word: start_pieces(word) for word in counts}
    merges = []
    while len(merges) < num_merges:
        pairs = Counter()
        for word, pieces in words.items():
            for pair in zip(pieces, pieces[1:], strict=False):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = {word: merge_pair(pieces, best) for word, pieces in words.items()}
        merges.append(best)
    return merges


class NumberedPieces:
    """The pieces that merges can make, and their numbers: what a tokenizer looks things up in.

    The numbers: 256 symbols, the same 256 with `</w>`, one for each merge, start, end. `ranks` says
    of a pair when it was learnt (0 is first), `vocabulary` leads from piece to number, `pieces`
    back; `start` and `end` are two of the numbers.

    Args:
        merges: pairs of pieces, in the order in which they were learnt.
        vocabulary: piece to number, where the numbers are given, as in CLIP's own files.

    Raises:
        ValueError: the vocabulary lacks a piece that the merges make.

    Source: Radford et al. 2021, arXiv:2103.00020, section 2.4.
    """

    def __init__(self, merges: Iterable[tuple[str, str]], vocabulary: dict[str, int] | None = None):
        self.merges = [tuple(pair) for pair in merges]
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        symbols = [*byte_symbols(), *(symbol + WORD_END for symbol in byte_symbols())]
        pieces = [*symbols, *(a + b for a, b in self.merges), START, END]
        if vocabulary is None:
            vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
        missing = [piece for piece in pieces if piece not in vocabulary]
        if missing:
            raise ValueError(
                f"vocabulary lacks {len(missing)} pieces that merges make, one is {missing[0]!r}"
            )
        self.vocabulary = vocabulary
        self.pieces = {number: piece for piece, number in vocabulary.items()}
        self.start, self.end = vocabulary[START], vocabulary[END]

    def __len__(self) -> int:
        """How many numbers there are."""
        return max(self.pieces) + 1

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of numbers, without start and end; words with one space between them.

        Raises:
            ValueError: a number that is not in the vocabulary.
        """
        text = []
        for number in map(int, tokens):
            if number not in self.pieces:
                raise ValueError(f"tokens must be in the vocabulary, {number} is not")
            if number not in (self.start, self.end):
                text.append(self.pieces[number])
        symbols = "".join(text).replace(WORD_END, " ").rstrip(" ")
        numbers = {symbol: byte for byte, symbol in enumerate(byte_symbols())} | {" ": ord(" ")}
        return bytes(numbers[symbol] for symbol in symbols).decode(errors="replace")


class Tokenizer(NumberedPieces):
    """Text to numbers and back, with the merges that train_bpe learnt.

    Args:
        merges, vocabulary: as NumberedPieces takes them.
    """

    def encode(self, text: str, length: int | None = None) -> list[int]:
        """The numbers of a text, between the start's and the end's.

        Each word's pieces are merged, always the pair that was learnt first, while there is one.

        Args:
            text: any, empty too.
            length: L; None: as long as the text needs. A shorter text is filled up with the end's
                number; a longer one is cut, and still ends with the end's.

        Returns:
            L numbers.

        Raises:
            ValueError: text is no str, or length leaves no room for start and end.
        """
        check_text(text, length)
        numbers = []
        for word in split_words(text):
            pieces = start_pieces(word)
            while known := set(zip(pieces, pieces[1:], strict=False)) & self.ranks.keys():
                pieces = merge_pair(pieces, min(known, key=self.ranks.get))
            numbers += [self.vocabulary[piece] for piece in pieces]
        if length is None:
            return [self.start, *numbers, self.end]
        kept = numbers[: length - 2]
        return [self.start, *kept] + [self.end] * (length - 1 - len(kept))

    def __call__(self, texts: Sequence[str], length: int) -> Tensor:
        """B texts as (B, length) int64."""
        if isinstance(texts, str):
            raise ValueError("texts must be a list of texts, got one text: put [ ] around it")
        rows = [self.encode(text, length) for text in texts]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), length)


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write vocab.json and merges.txt, which transformers' CLIPTokenizer reads too."""
    folder = Path(folder)
    text = json.dumps(tokenizer.vocabulary, ensure_ascii=False)
    write_atomically(folder / "vocab.json", text.encode())
    lines = ["#version: 0.2", *(f"{first} {second}" for first, second in tokenizer.merges)]
    write_atomically(folder / "merges.txt", ("\n".join(lines) + "\n").encode())


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Read vocab.json and merges.txt from a folder, ours or CLIP's own.

    Raises:
        ValueError: a file is missing, or it is not in CLIP's format.
    """
    folder = Path(folder)
    for name in ("vocab.json", "merges.txt"):
        if not folder.joinpath(name).is_file():
            raise ValueError(f"{folder} has no {name}: a tokenizer's folder holds it")
    try:
        vocabulary = json.loads(folder.joinpath("vocab.json").read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{folder / 'vocab.json'} is damaged: it is not JSON") from None
    if not isinstance(vocabulary, dict):
        raise ValueError(f"{folder / 'vocab.json'} must hold pieces and their numbers")
    numbers = list(vocabulary.values())
    if not all(isinstance(each, int) for each in numbers) or len({*numbers}) < len(numbers):
        raise ValueError(f"{folder / 'vocab.json'} must give each piece a whole number of its own")
    lines = folder.joinpath("merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [tuple(line.split(" ")) for line in lines if line and line[:9] != "#version:"]
    if any(len(pair) != 2 for pair in merges):
        raise ValueError(f"{folder / 'merges.txt'}: each line must hold two pieces")
    lost = vocabulary.keys() - NumberedPieces(merges).vocabulary.keys()
    if lost:
        raise ValueError(
            f"{folder / 'merges.txt'} is not whole: {len(lost)} pieces of vocab.json are made by "
            f"no merge, one is {min(lost)!r}"
        )
    return Tokenizer(merges, vocabulary)


def check_text(text: str, length: int | None) -> None:
    """Say which argument of Tokenizer.encode does not fit."""
    if not isinstance(text, str):
        raise ValueError(f"text must be a str, got {type(text).__name__}")
    if length is not None and length < 2:
        raise ValueError(f"length must be 2 or more (start and end), got {length}")


def check_training(texts: Iterable[str], num_merges: int) -> None:
    if isinstance(texts, str):
        raise ValueError("texts must be a list of texts, got one text: put [ ] around it")
    if num_merges < 0:
        raise ValueError(f"num_merges must be 0 or more, got {num_merges}")
