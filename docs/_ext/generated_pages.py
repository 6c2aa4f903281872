"""Pages that are made with each build, below ``docs/generated`` (not under version control)."""

from pathlib import Path

import api_pages
import file_reference
import lesson_pages
import policy_reference
import project_pages

MAKERS = (api_pages, file_reference, policy_reference, lesson_pages, project_pages)


def write_pages(folder):
    """Write all pages; files that did not change keep their time, so that Sphinx does not read them again.

    Returns
    -------
    set of Path
        What was written; everything else below the folder is of an earlier build and was removed.
    """
    wanted = {folder / name: text for maker in MAKERS for name, text in maker.pages().items()}
    for path, content in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)
    for path in folder.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()
    return set(wanted)


def setup(app):
    """Write the pages before Sphinx looks for sources."""
    api_pages.import_all()
    app.connect("autodoc-process-signature", api_pages.without_schema_signature)
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "generated"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
