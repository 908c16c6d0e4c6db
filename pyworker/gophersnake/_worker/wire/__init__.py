"""The protocol's frames, and the connection that carries them to the supervisor and back."""
