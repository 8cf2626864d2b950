"""A command's output as it comes.

$ python run_command.py > compared
"""

import sys

import curifactory as cf

cf.utils.run_command(["python", "-c", "print('from the command')"])
sys.stdout.flush()
