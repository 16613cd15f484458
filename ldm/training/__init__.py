"""Training. Imports nothing here, so that what is plain numpy (`ensemble`) needs no Jittor."""
