"""Operations on invoices and on what they bill."""
