"""Long and periodic work.

Preparing approved versions, exporting Bentos, keeping the runtimes in step with the routes.
"""
