"""Experiments of the papers run again: `python -m gifcore reproduce FILE`.

spec       what an experiment file holds, and its presets
registry   the kinds of experiment, one module a kind
kind       what a kind is made of: its keys, its columns, its runs
runner     runs them, keeps each finished one, says how long it takes
tables     mean and standard deviation over runs, in markdown and CSV; where protocols disagree
"""
