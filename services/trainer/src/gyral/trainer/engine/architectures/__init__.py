"""Networks as they are trained and served: each module needs torch and nothing else of ours.

The text of a module travels with the weights of a version that is served as torch, so
its `build` must give the same network from the same configuration wherever torch is.
"""
