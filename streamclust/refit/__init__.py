"""Full-batch Lloyd or EM over the retained stream or files, and the way into the live model."""
