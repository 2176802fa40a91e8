"""The type of arrays in annotations."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # of any shape; also what stands for an array on the tape
