"""A page and an HTTP API about the models of a server; needs the extra ``ui``."""
