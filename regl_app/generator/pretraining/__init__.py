"""How the bundled generator was made, and how to make one of other images (``regl pretrain``)."""
