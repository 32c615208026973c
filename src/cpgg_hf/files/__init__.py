"""Files that appear complete or not at all, their checksums, and the record of their data policy."""
