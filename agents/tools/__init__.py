"""A system as tools of an agent: typed arguments in, a few lines of text and artifacts out."""
