"""References in docstrings may name a class of another module without its module, if only one is called so."""


def _resolve(app, env, node, contnode):
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    ending = "." + node["reftarget"]
    found = [name for name in domain.objects if name.endswith(ending)]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)


def setup(app):
    """Ask here when Sphinx itself finds nothing."""
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
