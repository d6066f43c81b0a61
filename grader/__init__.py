"""A grader for labs whose answer is a container image."""

__version__ = "0.1.0"
