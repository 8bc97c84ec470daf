"""Device agents as services: links, cycle, modes, runtime."""
