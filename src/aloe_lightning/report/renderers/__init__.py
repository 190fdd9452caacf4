"""Table layouts as CSV, Markdown, LaTeX, HTML, and on a terminal."""
