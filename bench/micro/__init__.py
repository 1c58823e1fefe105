"""What is ours alone, without a kernel and a network: `bench/micro/run`. Outside of the tests; nothing here fails by
its time, and each case asserts that what it timed has happened."""
