"""Files, caches, fingerprints, trained nets and finished cells on disk."""
