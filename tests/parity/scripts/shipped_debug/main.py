"""The script that the package ships to start experiments from an editor.

$ python shipped:data/debug.py small
$ python shipped:data/debug.py small --overwrite --no-report
"""
