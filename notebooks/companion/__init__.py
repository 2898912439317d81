"""What the notebooks share: everything but the methods, which are `mtlcore`.

Imports point one way: notebooks -> studies -> train -> mtlcore.
"""
