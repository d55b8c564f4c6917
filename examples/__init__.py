"""Applications on real data: each a script that prints its figures and draws a picture."""
