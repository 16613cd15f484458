"""Data: the contest's folders, the cache of latents, and procedural landscapes."""
