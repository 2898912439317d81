"""How Sphinx builds the book from `build/book/source`, which `book/stage.py` fills; run both with `make book`."""

import shutil
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

project = "mtlcore"
author = "mtlcore contributors"
copyright = "mtlcore contributors, MIT licence"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
html_theme = "furo"
html_title = "HydaLearn and AdaTask, tested"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_favicon = "_static/favicon.svg"
html_extra_path = ["_extra"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

nb_execution_mode = "off"  # the committed outputs are the book's
nb_render_markdown_format = "myst"
nb_number_source_lines = False
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline"]
myst_heading_anchors = 4
myst_links_external_new_tab = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

mathjax_path = "tex-svg.js"  # from a package, so that formulas need no network
_MATHJAX = "sphinx-mathjax-offline"


def _copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        file = next(f for f in metadata.files(_MATHJAX) or () if f.match(f"mathjax/{mathjax_path}"))
        shutil.copyfile(str(file.locate()), Path(app.outdir) / "_static" / mathjax_path)


def setup(app: Sphinx) -> None:
    """Adds the copy of MathJax."""
    app.connect("build-finished", _copy_mathjax)
