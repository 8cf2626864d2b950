"""What experiments and parameter files there are.

$ experiment ls > compared
$ experiment nested.inner
"""
