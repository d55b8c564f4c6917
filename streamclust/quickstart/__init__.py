"""``streamclust try FILE``: from a file of one's own to settings, a model and a picture."""
