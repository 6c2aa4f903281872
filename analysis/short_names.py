"""Names cut to what fits beside a picture, such that different names still look different."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_WORD_ENDS = re.compile(r"[-_/.: ]")


def short_names(
    names: Iterable[str], cut: Callable[[str], str], cut_end: Callable[[str], str], *, gap: str
) -> dict[str, str]:
    """Cut names; those that would look alike begin where they differ.

    Parameters
    ----------
    names : iterable of str
        What appears together.
    cut : callable
        Makes a name fit, and leaves one that fits as it is.
    cut_end : callable
        The same, but what is left out is always the end.
    gap : str
        Stands for what is left out at the beginning.

    Returns
    -------
    dict
        From each name to its short form.
    """
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault(cut(name), []).append(name)
    found = {}
    for short, group in alike.items():
        if len(group) == 1:
            found[group[0]] = short
            continue
        common = _common_start(min(group), max(group))
        # Back to where a word ends, so that "model-10" and "model-12" do not become "0" and "2".
        begin = max((end.end() for end in _WORD_ENDS.finditer(common)), default=len(common))
        for way in (cut, cut_end):
            apart = {name: way(f"{gap}{name[begin:]}") for name in group}
            if len(set(apart.values())) == len(group):
                break
        found |= apart
    return found


def _common_start(one: str, other: str) -> str:
    same = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    return one if same is None else one[:same]
