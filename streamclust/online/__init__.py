"""The streaming step: score, forget, merge, revive, m-step, average, remember, recluster."""
