"""What the tests stand on: real servers on loopback, started and ended within a test."""
