"""What tests need, ours and extensions': an in-memory consortium that is honest until told to lie."""
