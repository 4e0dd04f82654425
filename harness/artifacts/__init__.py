"""Content identified by digest: files, JSON, source code, and files of the Hugging Face hub."""
