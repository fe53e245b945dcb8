"""Real crashes: vmcores of kernels that really panicked, made once and cached, and the peers to compare with."""
