"""What a dry run leaves behind.

$ experiment small --dry
$ python main.py
$ experiment small --map
$ python main.py
"""

import os

import observe

found = [os.path.join(at, name) for at, _, names in os.walk(".") for name in names if "__pycache__" not in at]
observe.value("files", sorted(path for path in found if not path.endswith(".py")))
