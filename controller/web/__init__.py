"""The operator's page: what the loop does, and the buttons that reach the one state machine."""
