"""The gRPC door: the Open Inference Protocol's service, and grpc.health.v1."""
