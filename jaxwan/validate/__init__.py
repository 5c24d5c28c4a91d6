"""The model beside the truth: measurements, published tables and closed forms."""
