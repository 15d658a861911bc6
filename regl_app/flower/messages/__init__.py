"""What server and clients say to each other: every record and key name, checked on arrival."""
