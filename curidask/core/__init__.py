"""What needs no file, network, clock or environment: specifications, the graph, planning, encodings, names, texts.

Every module is public.
"""
