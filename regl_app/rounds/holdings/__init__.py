"""What each client is taken to hold of each class: told by it, or guessed by the server."""
