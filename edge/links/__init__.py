"""Links to devices: one connection a transport, one link a device."""
