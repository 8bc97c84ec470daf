"""The `heron` program, and the commands that belong to no room of their own."""
