"""What all tests of the models share."""

from tests.numerics import strict_floats

__all__ = ["strict_floats"]
