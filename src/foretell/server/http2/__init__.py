"""HTTP/2 for a server: frames, heads, flow control, limits. Knows no gRPC, no route and no model."""
