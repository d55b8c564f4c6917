"""``streamclust try FILE``: from a file to settings, a model and a picture."""
