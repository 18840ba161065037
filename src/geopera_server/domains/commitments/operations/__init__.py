"""Operations on commitments."""
