"""``regl doctor``: what is wrong with this machine, node or link, and what to do."""
