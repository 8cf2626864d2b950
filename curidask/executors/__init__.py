"""Where tasks are carried out: in this process or on dask workers, behind one Protocol."""
