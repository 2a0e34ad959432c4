"""The pages, one a file, each with a function `page()` that the router calls."""
