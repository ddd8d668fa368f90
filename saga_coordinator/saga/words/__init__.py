"""The words that every room uses: identity, outcomes, errors, values and their sizes, and limits. This room imports no other
room.
"""
