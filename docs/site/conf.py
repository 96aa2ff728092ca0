"""The documentation site: see build.sh."""

import ast
import inspect
import re

import tandem
from docutils import nodes
from docutils.parsers.rst import Directive

project = "Tandem"
author = "the authors of Tandem"
copyright = f"2026, {author}"
release = tandem.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.doctest", "myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["requirements.txt"]
html_theme = "furo"
html_title = f"Tandem {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["rosetta.css"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "groupwise"
autodoc_typehints = "none"
# Documents that are included stand elsewhere for those who read the repository.
suppress_warnings = ["myst.xref_missing", "myst.header"]


def plain(app, what, name, obj, options, lines):
    """Docstrings are plain text for people: programs and sections in them become what they are."""
    text, block, program = [], [], False
    for line in [*lines, ""]:
        if line:
            block.append(line)
            continue
        if not block:
            continue
        if block[0].startswith(">>>"):
            program = False
            text += [*block, ""]
        elif is_program("\n".join(block)) or (program and block[0].startswith(" ")):
            # The next block may be more of the same.
            text += [] if program else ["::", ""]
            text += [*("    " + x for x in block), ""]
            program = True
        else:
            program = False
            text += prose(block)
        block = []
    lines[:] = text


def is_program(block):
    """Prose is hardly ever Python; one word is."""
    try:
        ast.parse(block)
    except SyntaxError:
        return False
    return any(c in block for c in "=(:@")


def prose(block):
    """A paragraph, in which "name: what it is" may begin lines that go on indented."""
    whole = []
    for line in block:
        if line.startswith(" ") and whole:
            whole[-1] += " " + line.strip()
        else:
            whole.append(line)
    entries = len(whole) < len(block)
    text = []
    for line in whole:
        found = re.match(r"([\w*]+(?:, [\w*]+)*): (.*)", line)
        if found and found[1] in ("Shapes", "Errors", "Source"):
            text += ["", f"**{found[1]}.** {escaped(found[2])}"]
        elif found and entries:
            text += ["", f"- ``{found[1]}``: {escaped(found[2])}", ""]
        else:
            text.append(escaped(line))
    return [*text, ""]


def escaped(line):
    """Asterisks, bars and underscores of plain text are no markup; backquotes are of code."""
    parts = re.split(r"`+([^`]+)`+", line)
    parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?=\W|$))", r"\\\1", p) for p in parts[::2]]
    return "".join(f"``{p}``" if i % 2 else p for i, p in enumerate(parts))


def short(app, what, name, obj, options, signature, returns):
    """Signatures of compiled functions without the spellings that only C++ needs."""
    if signature is None:
        return None
    signature = re.sub(r"^\(self: [\w.]+(, )?", "(", signature)
    for a, b in (("typing.SupportsInt | typing.SupportsIndex", "int"), ("tandem._core.", ""),
                 ("typing.SupportsFloat | typing.SupportsIndex", "float"),
                 ("collections.abc.", ""), ("Tensor = None", "Tensor | None = None")):
        signature = signature.replace(a, b)
        returns = returns.replace(a, b) if returns else returns
    return signature, returns


def public(app, what, name, obj, skip, options):
    """What the package takes over from its private module is part of it."""
    return True if inspect.ismodule(obj) else None


class OpTable(Directive):
    """Every op of the list, from the definitions themselves."""

    def run(self):
        head = ("op", "what it does", "kind", "gradient")
        rows = [
            (i["name"], i["doc"], i["kind"] + (", random" if i["random"] else ""),
             "yes" if i["differentiable"] else "no")
            for i in tandem._core._op_info()
        ]
        group = nodes.tgroup(cols=len(head))
        group += [nodes.colspec(colwidth=w) for w in (20, 50, 16, 8)]
        group += nodes.thead("", self.row(head, False))
        group += nodes.tbody("", *[self.row(r, True) for r in rows])
        return [nodes.table("", group)]

    @staticmethod
    def row(cells, code):
        make = [nodes.literal if code and i == 0 else nodes.inline for i in range(len(cells))]
        return nodes.row("", *[
            nodes.entry("", nodes.paragraph("", "", m(text=c))) for m, c in zip(make, cells)])


def setup(app):
    app.add_directive("op-table", OpTable)
    app.connect("autodoc-process-docstring", plain)
    app.connect("autodoc-process-signature", short)
    app.connect("autodoc-skip-member", public)
