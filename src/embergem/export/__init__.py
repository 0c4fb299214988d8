"""Write models: as compiled directories of embergem, and as directories of sentence-transformers."""
