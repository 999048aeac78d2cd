"""Measuring honestly: what a model costs on this machine, in time, memory and arithmetic.

Source: spec/edge.md, "Measuring honestly".
"""
