"""Looks behind the services, read-only: do their stores, the log and the lake agree?"""
