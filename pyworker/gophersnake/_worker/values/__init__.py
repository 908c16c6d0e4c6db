"""The values of nodes as bytes: msgpack, arrays, recordings and images."""
