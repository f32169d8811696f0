"""Model outputs that are computed when somebody looks at them."""

from collections.abc import Callable, ItemsView, ValuesView
from typing import Any

import torch
from torch import Tensor


class LazyOutputs(dict[str, Any]):
    """A dictionary of pictures in which some are only named until they are read.

    Nerfstudio's viewer lists every output of a method and shows one of them; rendering attention
    maps for the list alone would cost more than the picture itself.

    Example: `LazyOutputs(rgb=image).promise("depth", render_depth)` lists both names and calls
    `render_depth` at the first `outputs["depth"]`.
    """

    def promise(self, name: str, make: Callable[[], Tensor]) -> "LazyOutputs":
        """Name an output that `make` computes at the first reading."""
        super().__setitem__(name, make)
        return self

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if callable(value):
            with torch.no_grad():
                value = value()
            super().__setitem__(name, value)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """The output called `name`, computed now if need be."""
        return self[name] if name in self else default

    def items(self) -> ItemsView[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """All names with their outputs; computes all of them."""
        return {name: self[name] for name in self}.items()

    def values(self) -> ValuesView[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """All outputs; computes all of them."""
        return {name: self[name] for name in self}.values()
