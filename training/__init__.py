"""What will make and train the networks; it may use the runtime, the runtime never uses it."""
