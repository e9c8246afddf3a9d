"""Alternative texts for the pictures of a site: what has none is found in HTML and Markdown, described, and put in."""
