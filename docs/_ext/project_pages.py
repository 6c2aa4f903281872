"""Pages of the repository's root, with links that work from here."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def pages():
    """Their text by file name."""
    return {
        f"project/{name}": re.sub(r"\]\(docs/", "](../../", (ROOT / source).read_text(encoding="utf-8"))
        for name, source in _PAGES.items()
    }
