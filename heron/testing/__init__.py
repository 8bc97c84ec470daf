"""For tests, ours and yours: virtual time, links and brokers in memory, fault injection."""
