"""Redis: points in, state and models out. Nothing above the models knows how they are stored."""
