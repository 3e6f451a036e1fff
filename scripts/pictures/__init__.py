"""The pictures of the documents, each drawn from committed sources: python3 -m scripts.pictures.

The pictures are committed, too, and a test compares them with what is drawn.
"""
