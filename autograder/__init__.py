"""The autograder: builds the notebooks, grades them, and proves that its grades can be trusted."""
