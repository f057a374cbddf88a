"""The embedded model: a small tool-calling GGUF that the project trains itself, see `models/nano`."""
