"""The servers Foretell is measured beside: one file each, with how it is installed, started and asked."""
