"""The site must be readable without a network: no page loads a script, style, font or picture from elsewhere."""

import re
from pathlib import Path

from sphinx.errors import ExtensionError

# Links that a reader may follow (<a href>) are no loads; neither is rel="canonical" and the like.
_LOAD = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"(?:https?:)?//[^\"]*\""
    r"|<link\b(?=[^>]*rel=\"(?:stylesheet|preload|icon)\")[^>]*href=\"(?:https?:)?//[^\"]*\""
)
_STYLE_LOAD = re.compile(r"(?:@import\s+|url\()['\"]?(?:https?:)?//[^)'\"]*")


def loads_in(folder):
    """What pages and styles below a folder load from elsewhere, with the file that does."""
    found = []
    for pattern, ending in ((_LOAD, "*.html"), (_STYLE_LOAD, "*.css")):
        for path in sorted(Path(folder).rglob(ending)):
            found += [f"{path.relative_to(folder)}: {load}" for load in pattern.findall(path.read_text("utf-8"))]
    return found


def _check(app, exception):
    if exception is None and app.builder.name == "html" and (found := loads_in(app.outdir)):
        raise ExtensionError("the site loads from elsewhere: " + "; ".join(found[:5]))


def setup(app):
    """Look at the site when it is done."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
