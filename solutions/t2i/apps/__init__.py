"""What draws for its user: a command, and a page in the browser."""
