"""What everything speaks of: identity, outcomes, errors, values and their sizes, and limits. It knows no other room."""
