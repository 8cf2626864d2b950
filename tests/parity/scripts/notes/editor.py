import sys

with open(sys.argv[-1], "w") as file:
    file.write("From the editor\n\nand more\n# not this\n")
