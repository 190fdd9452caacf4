"""A signature is the schema: parameters are declared once, with type and range, by the class that takes them."""
