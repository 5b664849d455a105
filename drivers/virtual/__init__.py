"""A virtual T2S+ for this machine's kernel: a USB device by USB/IP, from the pictures of the simulator."""
