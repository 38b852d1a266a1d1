"""Captions: every phrasing says what was meant, and what is held out stays out."""

import itertools

import pytest
import torch

from t2i.world import caption_reading, captions
from t2i.world.caption_reading import MAX_LENGTH, VOCABULARY, CaptionError, encode, parse, words_of
from t2i.world.captions import (
    COLOURS,
    FORMS,
    FRAMES,
    HELDOUT_PHRASINGS,
    KINDS,
    Phrasing,
    Scene,
    Thing,
    phrase,
)

SEVEN, CIRCLE, STAR = Thing("red", "seven"), Thing("blue", "circle"), Thing("green", "star")


def all_phrasings():
    forms = itertools.product(range(len(FRAMES)), range(len(FORMS)), (False, True))
    for frame, form, figure in forms:
        for turned, wording in itertools.product((False, True), (0, 1)):
            yield Phrasing(frame, (form, 3 - form, form), (figure,) * 3, turned, wording)


def all_scenes():
    for relation, background in itertools.product(
        ("left of", "above", "right of", "below", None), ("white", None)
    ):
        yield Scene((SEVEN, CIRCLE), relation, background)
        yield Scene((CIRCLE, SEVEN, STAR), relation, background)
    for size, place in itertools.product(("small", None), (*captions.PLACES, None)):
        yield Scene((Thing("orange", "eight", size, place),), None, "black")


def test_what_was_said_is_what_is_understood():
    for scene, phrasing in itertools.product(all_scenes(), all_phrasings()):
        caption = phrase(scene, phrasing)
        assert parse(caption) == scene, caption
        assert 2 <= len(words_of(caption)) <= MAX_LENGTH


def test_every_colour_and_kind_in_every_phrasing():
    ways = [way for way in all_phrasings() if not way.turned and way.wording == 0]
    for colour, kind, phrasing in itertools.product(COLOURS, KINDS, ways):
        scene = Scene((Thing(colour, kind),))
        assert parse(phrase(scene, phrasing)) == scene


@pytest.mark.parametrize(
    "caption",
    [
        "a red seven to the left of a blue circle",
        "a blue circle to the right of a red seven",
        "There is a 7 in red left of a circle that is blue.",
        "a red digit 7 and a blue circle, from left to right",
        "a picture of a blue circle and a red seven from right to left",
    ],
)
def test_one_meaning_in_several_ways(caption):
    assert parse(caption) == Scene((SEVEN, CIRCLE), "left of")


def test_plain_english():
    assert phrase(Scene((SEVEN,))) == "a red seven"
    assert phrase(Scene((Thing("orange", "eight"),))) == "an orange eight"
    way = Phrasing(2, (1, 3, 0), (True, True, True), wording=1)
    assert phrase(Scene((Thing("pink", "eight"), STAR), "above"), way) == (
        "there is an 8 in pink over a green star shape"
    )
    assert phrase(Scene((SEVEN, CIRCLE, STAR), "above", "grey")) == (
        "a red seven, a blue circle and a green star, from top to bottom on a grey background"
    )


def test_beside_is_not_at_the_side():
    assert parse("a small red seven on the left").things[0].place == "left"
    with pytest.raises(CaptionError, match="lacks an object"):
        parse("a red seven on the left of")


@pytest.mark.parametrize(
    "caption, says",
    [
        ("", "empty"),
        (" ,. ", "empty"),
        (None, "must be a text, got NoneType"),
        ("a reed seven", "'reed'.*red"),
        ("a red sevn", "'sevn'.*seven"),
        ("a red dragon", "'dragon'.*unknown: the colours are red, .*objects are zero, .*heart"),
        ("a very red seven", "'very'.*unknown: the colours are red"),
        ("<padding>", "unknown"),
        ("red", "lacks an object"),
        ("a seven", "lacks a colour"),
        ("there is a picture", "lacks an object"),
        ("a red blue seven", "'blue'.*out of place"),
        ("a black seven", "'black'.*out of place"),
        ("a red seven left of a blue circle above a green star", "one relation"),
        ("a red seven from left to right", "names 1 things"),
        ("a red 1, a blue 2, a pink 3 and a cyan 4", "names 4 things"),
    ],
)
def test_captions_that_cannot_be_understood(caption, says):
    with pytest.raises(CaptionError, match=says):
        parse(caption)


def test_encode_numbers_the_words():
    tokens, mask = encode(["a red seven", "there is an 8 in pink"], length=8)
    assert tokens.shape == mask.shape == (2, 8)
    assert tokens.dtype == torch.int64 and mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [3, 6]
    assert torch.equal(mask, tokens != caption_reading.PADDING)
    assert [VOCABULARY[token] for token in tokens[0, :3]] == ["a", "red", "seven"]
    assert encode([], 4)[0].shape == (0, 4)


def test_encode_refuses():
    with pytest.raises(CaptionError, match="list of texts"):
        encode("a red seven")
    with pytest.raises(CaptionError, match="has 3 words, length is 2"):
        encode(["a red seven"], length=2)
    with pytest.raises(CaptionError, match="empty"):
        encode(["a red seven", ""])


def test_heldout_phrasings_have_no_word_of_their_own():
    """A model can only fail at them by not understanding the way the words stand."""

    def words(heldout):
        pairs = itertools.product(range(len(FRAMES)), range(len(FORMS)))
        chosen = [pair for pair in pairs if (pair in HELDOUT_PHRASINGS) == heldout]
        scenes = [Scene((SEVEN,)), Scene((STAR,))]
        told = [phrase(s, Phrasing(f, (form,) * 3)) for s in scenes for f, form in chosen]
        return set(" ".join(told).split())

    assert words(heldout=True) <= words(heldout=False)
    assert {form for _, form in HELDOUT_PHRASINGS} == set(range(len(FORMS)))


def test_vocabulary_has_each_word_once():
    assert len(set(VOCABULARY)) == len(VOCABULARY) and VOCABULARY[0] == "<padding>"


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: Thing("crimson", "seven"), "colour must be one of red"),
        (lambda: Thing("red", "7"), "kind must be one of zero"),
        (lambda: Thing("red", "seven", size="huge"), "size must be one of small"),
        (lambda: Scene(()), "one to three Things"),
        (lambda: Scene([SEVEN]), "must be a tuple"),
        (lambda: Scene((SEVEN, Thing("red", "star", size="large"))), "belong to a thing alone"),
        (lambda: Phrasing(forms=(0,)), "must be three each"),
        (lambda: Scene((SEVEN,), "above"), "needs two things"),
        (lambda: Scene((SEVEN, STAR), "near"), "relation must be one of"),
        (lambda: Scene((SEVEN,), background="red"), "background must be one of black"),
    ],
)
def test_impossible_scenes(make, says):
    with pytest.raises(ValueError, match=says):
        make()
