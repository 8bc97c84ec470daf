"""The emulator's Modbus server: register images of units, curves, reversion, roles."""
