"""What is this file? Each module reads the first kilobytes of one format: no torch, no reading past the header."""
