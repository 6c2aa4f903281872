"""Formulas of a lecture page for a terminal: TeX between dollars becomes Unicode text.

Only what formulas of a lecture need: fractions, roots, powers, indices, sums, Greek letters and the usual signs.  A
command that is not known loses its backslash.
"""

# ruff: noqa: RUF001 -- Greek letters are meant

from __future__ import annotations

import re

_SIGNS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "eta": "η", "theta": "θ",
    "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ",
    "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Lambda": "Λ", "Sigma": "Σ",
    "Phi": "Φ", "Omega": "Ω", "cdot": "·", "times": "×", "pm": "±", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥",
    "ne": "≠", "neq": "≠", "approx": "≈", "sim": "~", "propto": "∝", "infty": "∞", "sum": "Σ", "prod": "Π", "int": "∫",
    "to": "→", "rightarrow": "→", "ldots": "...", "dots": "...", "cdots": "...", "in": "∈", "ll": "≪", "gg": "≫",
    "mid": "|", "lceil": "⌈", "rceil": "⌉", "lfloor": "⌊", "rfloor": "⌋", "partial": "∂", "left": "", "right": "",
    "quad": "   ", "qquad": "      ", "Pr": "P", "prime": "'", "ell": "l", "Rightarrow": "⇒", "big": "", "Big": "",
    "displaystyle": "",
}  # fmt: skip
_SPACES = {
    ",": " ",
    ";": " ",
    ":": " ",
    "!": "",
    " ": " ",
    "\\": "\n",
    "%": "%",
    "{": "{",
    "}": "}",
    "_": "_",
    "#": "#",
}
_SUPERSCRIPTS = dict(zip("0123456789+-n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", strict=True))
_WRAPPERS = ("text", "mathrm", "operatorname", "mathbf", "mathbb", "mathit", "textit", "texttt")
_ACCENTS = {"bar": "\u0304", "hat": "\u0302", "tilde": "\u0303", "overline": "\u0304"}
_WIDTH = 70
_DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"(?<![\\$\w])\$(?!\s)([^$\n]+(?:\n[^$\n]+)?)(?<!\s)\$(?![\w$])")


def page_for_terminal(page: str) -> str:
    """Markdown without dollar math: formulas in a line become code, paragraphs of their own code blocks.

    Parameters
    ----------
    page : str
        Markdown with ``$...$`` and ``$$...$$``.
    """
    parts = re.split(r"(```.*?```)", page, flags=re.DOTALL)
    for index in range(0, len(parts), 2):  # what is code already stays
        text = _DISPLAY.sub(lambda found: _block(found.group(1)), parts[index])
        parts[index] = _INLINE.sub(lambda found: f"`{plain_math(found.group(1))}`", text)
    return "".join(parts)


def plain_math(formula: str) -> str:
    """One formula, without its dollars, as text."""
    text, _ = _group(" ".join(formula.split()), 0, closing="")
    return re.sub(r"(?<=\S) {2,3}(?=\S)", "  ", text).strip()


def _block(formula: str) -> str:
    text = plain_math(formula)
    # Formulas side by side take a line each where they do not fit.
    lines = re.split(r"\n|   +" if len(text) > _WIDTH else r"\n", text)
    return "\n```text\n" + "\n".join(f"    {line.strip()}" for line in lines) + "\n```\n"


def _group(formula: str, at: int, *, closing: str) -> tuple[str, int]:
    """Text from position ``at`` to the closing brace (or the end), and the position behind it."""
    out: list[str] = []
    while at < len(formula):
        sign = formula[at]
        if closing and sign == closing:
            return "".join(out), at + 1
        if sign == "\\":
            text, at = _command(formula, at + 1)
        elif sign in "^_":
            argument, at = _argument(formula, at + 1)
            text = _raised(argument) if sign == "^" else _lowered(argument)
        elif sign == "{":
            text, at = _group(formula, at + 1, closing="}")
        else:
            text, at = ("" if sign == "&" else sign), at + 1
        out.append(text)
    return "".join(out), at


def _command(formula: str, at: int) -> tuple[str, int]:
    """The text of a command whose name begins at ``at``."""
    found = re.match(r"[A-Za-z]+", formula[at:])
    if found is None:
        return _SPACES.get(formula[at : at + 1], formula[at : at + 1]), at + 1
    name, at = found.group(), at + found.end()
    if name in ("frac", "dfrac", "tfrac"):
        upper, at = _argument(formula, at)
        lower, at = _argument(formula, at)
        return f"{_enclosed(upper)} / {_enclosed(lower)}", at
    if name == "sqrt":
        inner, at = _argument(formula, at)
        return f"√{_enclosed(inner)}", at
    if name in _WRAPPERS:
        return _argument(formula, at)
    if name in _ACCENTS:
        inner, at = _argument(formula, at)
        return inner + _ACCENTS[name], at
    if name in ("begin", "end"):
        _, at = _argument(formula, at)
        return "", at
    return _SIGNS.get(name, name), at


def _argument(formula: str, at: int) -> tuple[str, int]:
    """What a command applies to: a group in braces, a command, or one sign."""
    while at < len(formula) and formula[at] == " ":
        at += 1
    if formula[at : at + 1] == "{":
        return _group(formula, at + 1, closing="}")
    if formula[at : at + 1] == "\\":
        return _command(formula, at + 1)
    return formula[at : at + 1], at + 1


def _raised(text: str) -> str:
    if text and all(sign in _SUPERSCRIPTS for sign in text):
        return "".join(_SUPERSCRIPTS[sign] for sign in text)
    return f"^{_enclosed(text)}"


def _lowered(text: str) -> str:
    return f"_{text}" if len(text) <= 1 or text.isalnum() else f"_({text})"


def _enclosed(text: str) -> str:
    """In parentheses unless it is one factor."""
    stripped = text.strip()
    return stripped if re.fullmatch(r"[\w.∞√̄̂]+|\w*\([^()]*\)", stripped) else f"({stripped})"
