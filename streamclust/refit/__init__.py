"""Full-batch Lloyd or EM over the retained stream or files, to replace the live parameters."""
