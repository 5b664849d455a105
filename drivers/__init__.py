"""From the wire to degrees: cameras, their protocol, thermometry and recordings. Runs without the daemon."""
