"""Settings of Sphinx: pages are made from the docstrings, so a new rule needs nothing here."""

from instep import __version__, functional, optimizers

project = "instep"
author = "The instep developers"
project_copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "py:obj"

# Each class of `optimizers.__all__` and each step of `functional`, for the templates.
autosummary_context = {
    "rules": optimizers.__all__,
    "steps": [
        f"{name.lower()}({', '.join(('p', 'g', *functional.states(name.lower())))}, *, t, ...)"
        for name in optimizers.__all__
    ],
}
autosummary_generate_overwrite = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# scikit-learn makes them for every estimator, with references into its own pages.
_REQUESTS = ("set_fit_request", "set_partial_fit_request", "set_score_request")
autodoc_default_options = {"exclude-members": ", ".join(_REQUESTS)}
numpydoc_show_class_members = False
# An MPI is not needed to write the page of its module.
autodoc_mock_imports = ["mpi4py"]

myst_heading_anchors = 2

html_theme = "alabaster"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = "instep"
html_theme_options = {
    "description": "Optimizer steps in place on NumPy arrays",
    "page_width": "70rem",
    "body_max_width": "50rem",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_show_sourcelink = False
html_copy_source = False
