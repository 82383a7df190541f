"""Tables for readers, made from the contents of result files alone."""
