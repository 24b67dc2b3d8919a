"""Live streams: frames come over one connection, answers go back on it, and the newest frame wins."""
