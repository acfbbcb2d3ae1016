"""Workflows: typed graphs of steps that are checked before they run.

definition (what was built) → checking (names, types, nesting) → plan (compiled once) → run (executor).
"""
