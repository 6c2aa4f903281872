"""Named plug-ins: one registry per kind, filled by a decorator or by a packaging entry point.

A third party adds, say, a replica balancer with an entry point in the group ``routerwise.balancers``; its name
then works in scenario files like a built-in one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from latency_models.errors import unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Plug-ins of one kind by name.

    Parameters
    ----------
    kind : str
        What the plug-ins are, for messages: ``"replica balancer"``.
    group : str
        Entry-point group that third parties use.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._built_in: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that makes a plug-in available under ``name``."""

        def add(plugin: T) -> T:
            if name in self._built_in:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._built_in[name] = plugin
            return plugin

        return add

    def names(self) -> list[str]:
        """All names, built in and third party, sorted."""
        return sorted({*self._built_in, *(point.name for point in entry_points(group=self.group))})

    def get(self, name: str) -> T:
        """The plug-in called ``name``; an unknown name lists the choices and suggests the nearest."""
        if name in self._built_in:
            return self._built_in[name]
        for point in entry_points(group=self.group, name=name):
            plugin: T = point.load()
            return plugin
        raise unknown_name(self.kind, name, self.names())
