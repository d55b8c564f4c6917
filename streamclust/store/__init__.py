"""Redis: points in, state and models out. Other layers don't know how they are stored."""
