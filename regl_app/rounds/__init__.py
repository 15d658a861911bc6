"""One round in the papers' order, without Flower: what a client does, what the server plans."""
