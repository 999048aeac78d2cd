"""Measuring honestly: what a model costs on this machine, in time, memory and arithmetic.

Source: docs/speed.md, "Measuring honestly".
"""
