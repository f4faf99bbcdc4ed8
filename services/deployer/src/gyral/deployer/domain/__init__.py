"""What the deployer decides.

How a version takes over, step by step, and when it is taken back.
"""
