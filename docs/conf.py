"""The documentation site: ``make docs``.  Nothing is fetched while it is built, or while it is read."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from pygments.lexers.special import TextLexer

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "routerwise"
version = release = installed_version("routerwise")
copyright = "the routerwise authors, Apache-2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_copybutton",
    "generated_pages",  # reference, lessons, changelog: made anew with each build
    "mathml",
    "offline",
    "short_names",
]
exclude_patterns = ["_build", "examples/README.md"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_allow_space = False  # "$ per million, $ per GPU" is money
myst_links_external_new_tab = False

html_theme = "furo"
html_title = f"routerwise {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
pygments_style = "default"
pygments_dark_style = "github-dark"
copybutton_exclude = ".linenos, .gp, .go"

nitpicky = True
# Names that Sphinx makes links of but that have no page here.
nitpick_ignore_regex = [
    ("py:.*", r"(collections\.abc|pydantic\.\w+|simpy)\..*"),  # of other projects; their pages would have to be fetched
    ("py:.*", r".*\._\w+"),  # private functions that a type alias names
    ("py:obj", r"scenarios\.replicated\.Figures"),  # a type variable
]
# Sphinx stumbles over aliases such as tuple[int, ...], which it shows all the same; a module that cannot be imported
# stops the build before (generated_pages imports all).
suppress_warnings = ["autodoc"]
autodoc_typehints = "none"  # docstrings say types in words; as links, most would lead to NumPy and the standard library
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "undoc-members": True,  # fields that need no words are listed too, so that references to them work
    "exclude-members": "model_config, model_post_init, model_fields, model_computed_fields",
}
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
autosummary_generate = False


def setup(app):
    """Show CSV as it is; Pygments has no lexer for it."""
    app.add_lexer("csv", TextLexer)
