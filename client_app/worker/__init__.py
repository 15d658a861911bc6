"""A node's worker: a process that stays between messages, with torch and the generator loaded."""
