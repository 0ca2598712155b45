"""Two scenes of one place: brought together, compared, and what differs connected into patches."""
