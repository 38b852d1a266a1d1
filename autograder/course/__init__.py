"""The lessons as an nbgrader course: make one, release, collect, autograde, feedback, export."""
