"""Byte-pair encoding: the same numbers as transformers' CLIPTokenizer, from the same files."""

import random
import unicodedata

import pytest
import torch
from transformers import CLIPTokenizer

from t2i.bpe import Tokenizer, load_tokenizer, merge_pair, save_tokenizer, train_bpe
from t2i.byte_words import END, START, byte_symbols, clean, split_words, start_pieces

TEXTS = [
    "a red seven to the left of a blue circle",
    "there is an orange 8 that isn't small",
    "ein grünes Café, naïve Ελληνικά ΣΟΦΟΣ",
    "here you see a 42 🦆 🦆 — and the others' ducks",
    "she's red, they're read, we've re-read it",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train_bpe(TEXTS * 2 + ["the red", "the ree"], 150))


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer, folder)
    return folder


def random_texts(count: int) -> list[str]:
    """Strings of every kind: empty, spaces, letters of all scripts, emoji, marks, nonsense."""
    draw = random.Random(7)
    points = [*range(0x20, 0x2FA20, 7), *range(0x20, 0x250), *range(0x1F300, 0x1F700)]
    every = [c for c in map(chr, points) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    spaces = " \t\n\r\x0b\x0c\x1c\x85\xa0\u2003\u3000"
    joined = [
        "👩‍👩‍👧",
        "🇩🇪",
        "👍🏽",
        "e\u0301",
        "ﬁ",
        "İ",
        "ß",
        "'s",
        "'LL",
        "don't",
        "½",
        "１２",
        "क्षि",
    ]
    joined += [START, END, "<|ENDOFTEXT|>", "<|", "</w>", "#version: 0.2", "\x00", "\ufeff"]

    def one() -> str:
        kinds = draw.choices(["every", "ascii", "space", "joined", "words"], k=draw.randrange(12))
        made = {
            "every": lambda: draw.choice(every),
            "ascii": lambda: chr(draw.randrange(32, 127)),
            "space": lambda: draw.choice(spaces),
            "joined": lambda: draw.choice(joined),
            "words": lambda: draw.choice(draw.choice(TEXTS).split()),
        }
        return "".join(made[kind]() for kind in kinds)

    return [one() for _ in range(count)]


def test_ten_thousand_strings_as_in_transformers(tokenizer, folder):
    theirs = CLIPTokenizer.from_pretrained(folder)
    texts = ["", " ", *TEXTS, *random_texts(10_000)]
    for text, expected in zip(texts, theirs(texts).input_ids, strict=True):
        assert tokenizer.encode(text) == expected, repr(text)


@pytest.mark.parametrize("length", [2, 3, 7, 77])
def test_filled_up_and_cut_as_in_transformers(tokenizer, folder, length):
    theirs = CLIPTokenizer.from_pretrained(folder)
    texts = ["", *TEXTS, *random_texts(200)]
    expected = theirs(texts, padding="max_length", truncation=True, max_length=length)
    assert tokenizer(texts, length).tolist() == expected.input_ids
    assert tokenizer([], length).shape == (0, length)


def test_files_there_and_back(tokenizer, folder):
    again = load_tokenizer(folder)
    assert again.vocabulary == tokenizer.vocabulary and again.merges == tokenizer.merges
    assert folder.joinpath("merges.txt").read_text(encoding="utf-8").startswith("#version: 0.2\n")
    assert again.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])


def test_decoding_gives_the_cleaned_words_back(tokenizer):
    for text in [*TEXTS, "🦆 über x̣", ""]:
        assert tokenizer.decode(tokenizer.encode(text)) == " ".join(split_words(text))
    assert tokenizer.decode(tokenizer.encode("a red", 9)) == "a red"
    with pytest.raises(ValueError, match="vocabulary"):
        tokenizer.decode([10**6])


def test_cleaning_and_words():
    assert clean("  É\t\nÀ ΣΟΦΟΣ İ") == " é à σοφοσ i̇"
    assert split_words("It's 42!? don't") == ["it", "'s", "4", "2", "!?", "don", "'t"]
    assert split_words(f"a{END}B {START}") == ["a", END, "b", START]
    assert split_words(" \n ") == []
    assert start_pieces("ü!") == ("Ã", "¼", "!</w>") and start_pieces(END) == (END,)
    assert len(set(byte_symbols())) == 256 and all(not s.isspace() for s in byte_symbols())


def test_merging_from_left_to_right():
    assert merge_pair(("a", "a", "a"), ("a", "a")) == ("aa", "a")
    assert merge_pair(("a", "b", "a", "b"), ("a", "b")) == ("ab", "ab")
    assert merge_pair(("a",), ("a", "a")) == ("a",) and merge_pair((), ("a", "b")) == ()


def test_training_by_hand():
    # l-o 3 times, o-w</w> twice, o-t</w> once; after the first merge "lo" stands before w twice
    assert train_bpe(["low low", "lot"], 10) == [("l", "o"), ("lo", "w</w>"), ("lo", "t</w>")]
    assert train_bpe(["ba ab"], 10) == [("a", "b</w>"), ("b", "a</w>")]  # equal: sorted order
    assert train_bpe(["aaaa"], 10) == [("a", "a"), ("a", "a</w>"), ("aa", "aa</w>")]
    assert train_bpe(["a b", "", "!"], 5) == [] and train_bpe([], 5) == []
    assert train_bpe(["low"], 0) == []


def test_every_merge_takes_the_most_frequent_pair():
    merges = train_bpe(TEXTS, 80)
    words = [start_pieces(word) for text in TEXTS for word in split_words(text)]
    for pair in merges:
        pairs = [p for pieces in words for p in zip(pieces, pieces[1:], strict=False)]
        most = max(pairs.count(p) for p in set(pairs))
        assert pair == min(p for p in set(pairs) if pairs.count(p) == most)
        words = [merge_pair(pieces, pair) for pieces in words]


def test_earlier_merges_go_first():
    tokenizer = Tokenizer([("b", "c"), ("a", "b"), ("bc", "d</w>")])
    pieces = [tokenizer.pieces[n] for n in tokenizer.encode("abcd")]
    assert pieces == [START, "a", "bcd</w>", END]


def test_once_through_all_merges_does_the_same():
    """As lesson 7's other page says; for merges that were learnt, not for any list of pairs."""
    rng = random.Random(0)
    for _ in range(200):
        letters = "abc"[: rng.randint(1, 3)]
        words = ["".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(12)]
        merges = train_bpe([" ".join(words)], rng.randint(1, 25))
        learnt = Tokenizer(merges)
        for _ in range(20):
            word = "".join(rng.choices(letters, k=rng.randint(1, 14)))
            pieces = start_pieces(word)
            for pair in merges:
                pieces = merge_pair(pieces, pair)
            assert [learnt.pieces[n] for n in learnt.encode(word)[1:-1]] == list(pieces)


def test_rows_are_integers_with_an_end(tokenizer):
    rows = tokenizer(["a red", TEXTS[0]], 6)
    assert rows.dtype == torch.int64 and rows.shape == (2, 6)
    assert (rows[:, 0] == tokenizer.start).all() and (rows[:, -1] == tokenizer.end).all()


def test_bad_input_is_named(tmp_path):
    tokenizer = Tokenizer([])
    for message, call in (
        ("got one text", lambda: train_bpe("text", 3)),
        ("num_merges must be 0", lambda: train_bpe(["text"], -1)),
        ("text must be a str", lambda: tokenizer.encode(3)),
        ("length must be 2", lambda: tokenizer.encode("a", 1)),
        ("got one text", lambda: tokenizer("text", 9)),
        ("lacks 513 pieces", lambda: Tokenizer([("a", "b")], {"a": 0, "b": 1})),
        ("has no vocab.json", lambda: load_tokenizer(tmp_path)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    save_tokenizer(tokenizer, tmp_path)
    tmp_path.joinpath("merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(ValueError, match="each line must hold two"):
        load_tokenizer(tmp_path)
    tmp_path.joinpath("vocab.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        load_tokenizer(tmp_path)
    tmp_path.joinpath("vocab.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold pieces and their numbers|two pieces"):
        load_tokenizer(tmp_path)
