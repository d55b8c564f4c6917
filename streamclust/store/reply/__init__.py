"""Replies of the server: limits of size, entries parsed in C++ or by redis-py."""
