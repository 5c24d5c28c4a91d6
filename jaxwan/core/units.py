"""Units in one place: seconds, bits, bytes."""

BITS_PER_BYTE = 8
FLOAT32_BITS = 32
