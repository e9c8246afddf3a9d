"""Alternative texts for the pictures of a site: finds pictures without one in HTML and Markdown, describes them, and
fills them in.
"""
