"""Keeps specs, keys and versions, judges each version and names the champion."""
