"""Where the supplement is made and used: at the client, by the server for it, or at the server."""
