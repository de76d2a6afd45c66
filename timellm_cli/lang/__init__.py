"""Other languages than English: which one, the catalogue of messages, and what is shown in its words."""
