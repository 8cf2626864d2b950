"""Remove what stages have cached."""

import os
import sys

for stage in sys.argv[1:]:
    for name in os.listdir("data/cache"):
        if f"_{stage}_" in name:
            os.remove(os.path.join("data/cache", name))
