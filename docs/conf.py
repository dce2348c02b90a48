"""Build with: .venv/bin/sphinx-build -W -b html docs docs/_build/html (after scripts/setup docs)."""

project = "git-sandbox"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "git-sandbox"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
