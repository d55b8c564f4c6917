"""The daemon: reads points, learns, commits, publishes."""
