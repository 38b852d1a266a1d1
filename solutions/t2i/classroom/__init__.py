"""What runs behind a notebook: its grader, its quiz, a class's copy of the package."""
