"""What a learner reads when an answer is wrong."""

import pytest
import torch

from autograder.testing import Teaching, expect_close, matches
from autograder.wire import Foreign

RIGHT = torch.tensor([1.0, 2.0, 4.0])


def sentence(actual, **options) -> str:
    with pytest.raises(Teaching) as caught:
        expect_close(actual, RIGHT, "the three values", **options)
    return str(caught.value)


def test_the_right_answer_passes_in_any_floating_dtype():
    expect_close(RIGHT.clone(), RIGHT, "the three values")
    expect_close(RIGHT.double(), RIGHT, "the three values")
    expect_close(RIGHT.bfloat16(), RIGHT, "the three values")


@pytest.mark.parametrize(
    ("actual", "says"),
    [
        (None, "return statement missing"),
        ([1.0, 2.0, 4.0], "yours is a list"),
        (Foreign("ndarray"), "yours is an? ndarray"),
        (RIGHT[:2], r"shape \(3,\), yours has \(2,\)"),
        (RIGHT.long(), "float32, yours is torch.int64"),
        (RIGHT * torch.nan, "NaN"),
        (-RIGHT, "sign is wrong"),
        (RIGHT * 3, "3 times the right value"),
        (RIGHT * 1.00005, "close to the right values, but not equal"),
        (torch.tensor([1.0, 2.0, 5.0]), "33% of the values differ"),
    ],
)
def test_the_symptom_is_named(actual, says):
    import re

    assert re.search(says, sentence(actual))


def test_the_cause_that_fits_is_named_and_no_other():
    causes = {"It was squared.": RIGHT**2, "It was doubled.": lambda: 2 * RIGHT}
    assert sentence(2 * RIGHT, causes=causes).endswith("It was doubled.")
    assert sentence(RIGHT + 1, causes=causes, otherwise="Look again.").endswith("Look again.")


def test_one_number_with_a_known_cause_is_not_called_a_multiple_of_the_right_one():
    def told(actual):
        with pytest.raises(Teaching) as caught:
            expect_close(
                torch.tensor(actual), torch.tensor(2.0), "the loss", {"Squared.": RIGHT[2]}
            )
        return str(caught.value)

    assert told(4.0) == "The loss is not right. Squared."
    assert "3 times the right value" in told(6.0)


def test_a_symbol_stays_as_it_is_written():
    with pytest.raises(Teaching, match="^ᾱ of a schedule is not right"):
        expect_close(-RIGHT, RIGHT, "ᾱ of a schedule")


def test_a_cause_that_cannot_be_computed_is_passed_over():
    causes = {"Broken.": lambda: RIGHT @ torch.ones(5), "It was squared.": RIGHT**2}
    assert sentence(RIGHT**2, causes=causes).endswith("It was squared.")


def test_no_right_value_is_given_away():
    text = sentence(torch.tensor([9.0, 9.0, 9.0]))
    assert not any(f"{value:g}" in text for value in (1.0, 2.0, 4.0))


def test_tolerance_is_that_of_the_right_values_and_nobody_gains_by_a_coarser_dtype():
    third = torch.tensor([1 / 3])
    assert matches(third, third.bfloat16()) and not matches(third.bfloat16(), third)
    assert matches(third, third.double()) and not matches(third + 1e-3, third)
    assert not matches(third.double() + 1e-4, third.double())
