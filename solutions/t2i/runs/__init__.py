"""Recipes for each size of machine, and the runs behind the course's weights and figures."""
