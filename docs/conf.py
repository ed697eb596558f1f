"""Sphinx configuration: built with warnings as errors, without the network."""

import inspect
import sys
from pathlib import Path

from scipy.sparse.linalg import LinearOperator

import skgnh
from skgnh.solvers import all_solvers

sys.path.insert(0, str(Path(__file__).parent))

from pictures import landing_picture  # noqa: E402

project = "skgnh"
author = "the skgnh developers"
copyright = "2026, the skgnh developers"
version = release = skgnh.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "myst_parser",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
# The table of measurements is part of another page.
exclude_patterns = ["_build", "defaults_table.rst"]
templates_path = ["_templates"]
# Markdown is read only where a page includes it.
source_suffix = {".rst": "restructuredtext"}
default_role = "literal"

html_theme = "furo"
html_title = f"skgnh {release}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections give the types
numpydoc_show_class_members = False  # the class template lists them

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    # "A quickstart" sorts first.
    "within_subsection_order": "ExampleTitleSortKey",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("skgnh",),
    "reset_modules": ("matplotlib", "pictures.larger_fonts"),
    "show_memory": False,
    "min_reported_time": 1,
    "remove_config_comments": True,
}


def skip_foreign(app, what, name, obj, skip, options):
    """Leave out what scikit-learn or SciPy defines: they document it."""
    module = getattr(getattr(obj, "fget", obj), "__module__", None) or ""
    foreign = str(module).split(".")[0] in ("scipy", "sklearn")
    return True if what == "class" and foreign else None


def init_signature(app, what, name, obj, options, signature, return_annotation):
    """Take an operator's signature from __init__: SciPy's __new__ hides it."""
    if what == "class" and issubclass(obj, LinearOperator):
        parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
        bare = [p.replace(annotation=p.empty) for p in parameters]
        return str(inspect.Signature(bare)), return_annotation
    return None


def solver_table(app):
    """Write the table of all solvers, from what their classes say of themselves."""
    head = (
        "Name",
        "Cost (multiply-adds)",
        "Memory (numbers)",
        "Needs",
        "When to use it",
    )
    rows = [head]
    for name, solver in all_solvers().items():
        reference = f":class:`{name} <skgnh.solvers.{solver.__name__}>`"
        needs = ", ".join(solver.requires) or "products"
        rows.append((reference, solver.cost, solver.memory, needs, solver.use))
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += ["   * - " + "\n     - ".join(row)]
    target = Path(app.srcdir, "api", "solver_table.inc")
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(lines) + "\n")


def setup(app):
    """Connect the filters, the table and the picture."""
    app.connect("builder-inited", solver_table)
    app.connect("builder-inited", landing_picture)
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("autodoc-process-signature", init_signature)
