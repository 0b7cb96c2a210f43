"""What all doors share: streams, disconnects, guards, PNG text, and the house's own side door."""
