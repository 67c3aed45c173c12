"""Grading of untrusted submissions: the code runs in a sandbox, the judge outside it.

Used in the grading of exercises.
"""
