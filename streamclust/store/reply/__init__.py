"""Replies of the server: limits of their size, and entries that C++ or redis-py parses."""
