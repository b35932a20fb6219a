"""`make bench`: what auditlib takes, beside the least that the same work could take (DESIGN 8)."""
