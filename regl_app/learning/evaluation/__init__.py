"""Global, personalized and feature evaluation."""
