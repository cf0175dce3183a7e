"""`midflow bench`: what decoding, the network, encoding and the whole cost on this machine."""
