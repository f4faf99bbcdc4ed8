"""Plays a file of the past through the platform from outside, as upstream and client would."""
