"""The questions of a lesson: read from `quiz.toml`, asked as text, answered in a cell."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = "quiz.toml"


class QuizError(ValueError):
    """A question is missing or malformed; the message says what to mend."""


@dataclass(frozen=True)
class Question:
    """One question with its options; each option has a text and what to say when it is chosen."""

    name: str
    question: str
    right: str
    options: dict[str, tuple[str, str]]

    def markdown(self) -> str:
        """The question as a notebook shows it, without saying which option is right."""
        lines = [f"**Question.** {self.question.strip()}", ""]
        lines += [f"- **{letter})** {text.strip()}" for letter, (text, _) in self.options.items()]
        hint = "Put the letter of your answer between the quotes and run the cell."
        return "\n".join([*lines, "", hint])

    def reply(self, answer: str) -> tuple[bool | None, str]:
        """(right or wrong, what to say); None in the first place where nothing was answered."""
        letter = answer.strip().strip("().").lower()  # "b)" is the same answer
        letters = ", ".join(self.options)
        if not letter:
            return None, f'not answered yet: write quiz("{self.name}", answer="…") with {letters}'
        if letter not in self.options:
            return None, f"there is no option {answer.strip()!r}; choose one of {letters}"
        right = letter == self.right
        return right, f"{letter}) {'Right.' if right else 'Not quite.'} {self.options[letter][1]}"


def load(folder: Path, name: str) -> Question:
    """One question of a lesson.

    Args:
        folder: the lesson's folder, in which `quiz.toml` lies.
        name: the question's name in that file.

    Raises:
        QuizError: the file or the question is missing or malformed.
    """
    path = folder / FILE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise QuizError(f"there is no {FILE} in {folder.name}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise QuizError(f"{FILE} of {folder.name} cannot be read: {error}") from None
    if name not in table:
        raise QuizError(f"{FILE} has no question {name!r}; it has: {', '.join(table) or 'none'}")
    return _question(name, table[name])


def _question(name: str, entry: dict) -> Question:
    options = {}
    for letter, option in entry.get("options", {}).items():
        if not (isinstance(option, list) and [type(each) for each in option] == [str, str]):
            raise QuizError(f"option {letter} of {name} in {FILE} must be [text, feedback]")
        options[letter] = (option[0], option[1].strip())
    if not isinstance(entry.get("question"), str) or len(options) < 2:
        raise QuizError(f"{name} in {FILE} needs a question and at least two options")
    if entry.get("right") not in options:
        raise QuizError(f"{name} in {FILE} says right = {entry.get('right')!r}, not an option")
    return Question(name, entry["question"], entry["right"], options)
